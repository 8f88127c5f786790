"""How long one action of a data set takes. An action is a distance; only with its period it becomes a speed.

bridge_orig: 5 Hz (openvla, BridgeData V2). The LIBERO suites: 20 Hz, the control frequency of their environments. The
table top of this package: 0.2 s. Other data sets of Open X-Embodiment run at 3 to 50 Hz: ask for theirs, do not guess.
"""

from __future__ import annotations

KNOWN = {"bridge_orig": 0.2, "bridge": 0.2, "bridge_oxe": 0.2, "tabletop": 0.2}  # s
LIBERO = 0.05  # s


def action_period(unnorm_key: str) -> float:
    """Seconds that one action of the data set ``unnorm_key`` takes. Raises ``ValueError`` for one that is not known."""
    key = unnorm_key.lower()
    if key.startswith("libero"):
        return LIBERO
    if key not in KNOWN:
        raise ValueError(
            f"how long an action of {unnorm_key!r} takes is not known: set step_dt to the data set's period in s "
            f"(known: {', '.join(sorted(KNOWN))}, libero_*)"
        )
    return KNOWN[key]
