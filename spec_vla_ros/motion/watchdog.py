"""The dead-man: no fresh image or no living worker means zero, and stays zero until someone re-arms on purpose.

All times are seconds on the steady clock. The ROS clock may stand still (simulation without a ``/clock``) or jump,
and must never decide whether an arm keeps moving.
"""

from __future__ import annotations

from dataclasses import dataclass

from spec_vla_ros.errors import SpecVlaError


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
                "End other programs on this GPU, or configure with dtype int8 or int4; then deactivate and activate.",
            )
        return Fault(
            "WORKER_EXCEPTION",
            f"{type(error).__name__}: {error}",
            "Read the traceback in the log; deactivate, cleanup and configure reload the model. After a CUDA error "
            "restart the process.",
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.detail} -- {self.remedy}"


@dataclass(frozen=True)
class Limits:
    """How old things may get, in seconds.

    ``image``: age of the newest image. ``first_image``: wait for the first image after arming, because cameras start
    later than nodes. ``inference``: one inference; a worker that takes longer counts as hung.
    """

    image: float
    first_image: float
    inference: float


class Watchdog:
    """Watches image age and worker age; the first fault is latched until :meth:`arm` is called again."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self._armed_at = 0.0
        self._captured_at: float | None = None
        self._busy_since: float | None = None

    def arm(self, now: float) -> None:
        """Forget the fault and all ages. The only way out of a fault; call it on activation."""
        self.fault = None
        self._armed_at = now
        self._captured_at = None
        self._busy_since = None

    def image_captured(self, at: float) -> None:
        """An image captured at steady time ``at`` has arrived; older ones than the newest do not count."""
        self._captured_at = at if self._captured_at is None else max(at, self._captured_at)

    def inference_started(self, now: float) -> None:
        """The worker has been given a request."""
        self._busy_since = now

    def inference_finished(self) -> None:
        """The worker has answered, with an action or with an error."""
        self._busy_since = None

    def image_age(self, now: float) -> float | None:
        """Seconds since the newest image was captured; None before the first one."""
        return None if self._captured_at is None else now - self._captured_at

    def trip(self, fault: Fault) -> bool:
        """Latch ``fault``. The first one stays, it is the cause; returns whether this was the first."""
        if self.fault is not None:
            return False
        self.fault = fault
        return True

    def check(self, now: float, limits: Limits) -> Fault | None:
        """The latched fault, after looking at all ages once more. Call it before anything is sent to the arm."""
        if self.fault is not None:
            return self.fault
        age = self.image_age(now)
        if age is None and now - self._armed_at > limits.first_image:
            self.trip(
                Fault(
                    "NO_IMAGE",
                    f"no image arrived within {limits.first_image:.2f} s of activation",
                    "Start the camera, check the remapping of the topic image and that it publishes a stamp.",
                )
            )
        elif age is not None and min(age, now - self._armed_at) > limits.image:
            # Not at once: the first image after arming may have queued since before, with a fresh one behind.
            self.trip(
                Fault(
                    "IMAGE_STALE",
                    f"the newest image is {age:.2f} s old, image_timeout is {limits.image:.2f} s",
                    "Check the camera, its clock and the network; then deactivate and activate.",
                )
            )
        elif self._busy_since is not None and now - self._busy_since > limits.inference:
            self.trip(
                Fault(
                    "WORKER_HUNG",
                    f"no action after {now - self._busy_since:.2f} s, inference_timeout is {limits.inference:.2f} s",
                    "Check the GPU; deactivate, cleanup and configure start a new worker.",
                )
            )
        return self.fault
