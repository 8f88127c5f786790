"""The dead-man: no fresh image, no living worker or no sign of the node means zero, until someone re-arms on purpose.

All times are seconds on the steady clock. The ROS clock may stand still (simulation without a ``/clock``) or jump,
and must never decide whether an arm keeps moving.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_vla_ros.errors import SpecVlaError
from spec_vla_ros.foreign_text import sentence

LONGEST = 1000  # characters of a fault's detail in one line; an exception may quote whatever it was given


@dataclass(frozen=True)
class Fault:
    """Why the arm was stopped: a stable name, what happened, and what the operator can do about it."""

    name: str
    detail: str
    remedy: str

    @staticmethod
    def of(error: BaseException) -> Fault:
        """The fault of an exception; anything that is not one of ours is a WORKER_EXCEPTION with its type."""
        if isinstance(error, SpecVlaError):
            return Fault(error.fault, str(error), error.remedy)
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():  # torch raises RuntimeErrors
            return Fault(
                "OUT_OF_MEMORY",
                f"{type(error).__name__}: {error}",
                "End other programs on this GPU, or configure with dtype int8_weights or int8; then deactivate, "
                "activate.",
            )
        return Fault(
            "WORKER_EXCEPTION",
            f"{type(error).__name__}: {error}",
            "Read the traceback in the log; deactivate, cleanup and configure reload the model. After a CUDA error "
            "restart the process.",
        )

    def __str__(self) -> str:
        return sentence(f"{self.name}: {sentence(self.detail, LONGEST)} -- {self.remedy}", 2 * LONGEST)


@dataclass(frozen=True)
class Limits:
    """How old things may get (s), and how fast the tool may move. What nobody has set allows nothing.

    ``image``: age of the newest image. ``first_image``: wait for the first image after arming, because cameras start
    later than nodes. ``inference``: one inference; a worker that takes longer counts as hung. ``heartbeat``: without a
    word of the node. ``pose``: age of a transform that is needed. ``linear``: m/s, ``angular``: rad/s.
    """

    image: float = 0.0
    first_image: float = 0.0
    inference: float = 0.0
    heartbeat: float = 0.0
    pose: float = 0.0
    linear: float = 0.0
    angular: float = 0.0


def silent(seconds: float, limits: Limits) -> Fault:
    """The fault of a node that has not said a word for ``seconds``."""
    return Fault(
        "NODE_SILENT",
        f"the node has said nothing for {seconds:.2f} s, heartbeat_timeout is {limits.heartbeat:.2f} s",
        "Find out what kept the node (a starved or suspended process, a huge request, a log that nobody reads); then "
        "deactivate and activate.",
    )


@dataclass(frozen=True)
class Signs:
    """Signs of life, in steady time. ``captured_at``: of the newest image, None before the first one.

    ``busy_since``: start of the inference under way, None while there is none. ``heard_at``: the node's last word.
    """

    captured_at: float | None
    busy_since: float | None
    heard_at: float


class Watchdog:
    """Watches ages; the first fault is latched until :meth:`arm` is called again. Nothing is waited for before that."""

    def __init__(self) -> None:
        self.arm(-math.inf)

    def arm(self, now: float) -> None:
        """Forget the fault. The only way out of one; call it on activation."""
        self.fault: Fault | None = None
        self._armed_at = now

    def trip(self, fault: Fault) -> bool:
        """Latch ``fault``. The first one stays, it is the cause; returns whether this was the first."""
        if self.fault is not None:
            return False
        self.fault = fault
        return True

    def check(self, now: float, signs: Signs, limits: Limits) -> Fault | None:
        """The latched fault, after looking at all ages once more. Call it before anything is sent to the arm."""
        if self.fault is None and (fault := self._aged(now, signs, limits)) is not None:
            self.fault = fault
        return self.fault

    def _aged(self, now: float, signs: Signs, limits: Limits) -> Fault | None:
        if now - signs.heard_at > limits.heartbeat:
            return silent(now - signs.heard_at, limits)
        if signs.captured_at is None:
            if now - self._armed_at > limits.first_image:
                return Fault(
                    "NO_IMAGE",
                    f"no image arrived within {limits.first_image:.2f} s of activation",
                    "Start the camera, check the remapping of the topic image and that it publishes a stamp; if images "
                    "are announced and do not arrive, 'images lost' in /diagnostics names the setting that helps.",
                )
        # Not at once: the first image after arming may have queued since before, with a fresh one behind.
        elif min(now - signs.captured_at, now - self._armed_at) > limits.image:
            return Fault(
                "IMAGE_STALE",
                f"the newest image is {now - signs.captured_at:.2f} s old, image_timeout is {limits.image:.2f} s",
                "Check the camera, its clock and the network; if images get lost on their way, 'images lost' in "
                "/diagnostics names the setting that helps; then deactivate and activate.",
            )
        if signs.busy_since is not None and now - signs.busy_since > limits.inference:
            return Fault(
                "WORKER_HUNG",
                f"no action after {now - signs.busy_since:.2f} s, inference_timeout is {limits.inference:.2f} s",
                "Check the GPU; deactivate, cleanup and configure start a new worker.",
            )
        return None
