"""The speed limit: one factor for the whole twist, so that a limited motion keeps its direction."""

from __future__ import annotations

import numpy as np

from spec_vla_ros.errors import NonFiniteError


class SpeedLimit:
    """Scales twists into the limits and counts how often it had to (``hits``).

    A limited step falls short of its action: the policy sees the result in the next image and asks again. The
    alternative, a longer step, would act on an older observation.
    """

    def __init__(self) -> None:
        self.hits = 0

    def apply(self, twist: np.ndarray, max_linear: float, max_angular: float) -> tuple[np.ndarray, float]:
        """Return the limited (6,) twist and the factor in 0..1 that was applied to all six components.

        ``max_linear`` in m/s and ``max_angular`` in rad/s bound the lengths of the two halves of ``twist``; 0 forbids
        that kind of motion, and with it the step. Raises :class:`NonFiniteError` for NaN or infinite values.
        """
        twist = np.asarray(twist, dtype=np.float64)
        if not (np.isfinite(twist).all() and np.isfinite([max_linear, max_angular]).all()):
            raise NonFiniteError(f"twist {twist.tolist()} or limits {max_linear}, {max_angular} are not finite")
        factor = 1.0
        for part, limit in ((twist[:3], max_linear), (twist[3:], max_angular)):
            speed = float(np.linalg.norm(part))
            if speed > limit:
                factor = min(factor, max(limit, 0.0) / speed)
        if factor < 1.0:
            self.hits += 1
        return twist * factor, factor
