"""Where the tool may go, and in whose axes it is told so. Poses come from the caller; no ROS.

The box is clipped component by component, as the robots of BridgeData do: a tool that reaches a wall slides along it.
"""

from __future__ import annotations

import numpy as np

HORIZON = 0.1  # s; after this long without a command a servo stops by itself, so this far a velocity may carry


class Workspace:
    """Slows twists that would carry the tool out of a box, and counts how often it had to (``hits``)."""

    def __init__(self) -> None:
        self.hits = 0
        self._at_wall = False

    def clip(self, twist: np.ndarray, position: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The (6,) twist of which no linear component leads out of the box within :data:`HORIZON`.

        ``position``: (3,) m of the tool; ``low``, ``high``: (3,) m, corners of the box; all in the axes of ``twist``.
        Rotation is left alone. A tool that is already outside may come back but not go further. ``hits`` counts
        meetings with a wall, not ticks.
        """
        speed = np.asarray(twist[:3], dtype=np.float64)
        allowed = np.clip(
            speed,
            np.minimum((low - position) / HORIZON, 0.0),
            np.maximum((high - position) / HORIZON, 0.0),
        )
        at_wall = bool(np.any(allowed != speed))
        self.hits += at_wall and not self._at_wall
        self._at_wall = at_wall
        return np.concatenate([allowed, twist[3:]])


def turned(twist: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The (6,) twist in other axes; ``rotation``: (4,) quaternion x y z w of the old axes in the new ones.

    Both halves are turned, neither is moved: the rotation stays one about the tool, as Servo takes it.
    """
    vector, scalar = np.asarray(rotation[:3], dtype=np.float64), float(rotation[3])

    def turn(v: np.ndarray) -> np.ndarray:
        cross = 2.0 * np.cross(vector, v)
        return v + scalar * cross + np.cross(vector, cross)

    return np.concatenate([turn(np.asarray(twist[:3])), turn(np.asarray(twist[3:]))])
