"""The instruction as a topic, heard from reliable and from best-effort publishers, and as a parameter.

DDS matches a reliable reader with reliable writers only, and not every middleware says so; a best-effort reader hears
everybody, but an instruction to hold must not get lost. So there are both, and what a reliable publisher says comes
twice.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

if TYPE_CHECKING:
    from .cycle import Cycle

DEPTH = 10
ECHO = 1.0  # s within which the second copy of a message is expected


class Instructions:
    """Subscribes; ``callback`` gets every message of a reliable publisher, in order, and what only others have said.

    A repeated instruction disturbs nothing, so it does no harm if the best-effort copy comes first. One that comes
    behind is dropped, or it would bring back an instruction that has been replaced meanwhile.
    """

    def __init__(self, node: Any, callback: Callable[[Any], None]) -> None:
        self._callback = callback
        self._only_reliable: deque[tuple[int, float]] = deque(
            maxlen=DEPTH
        )  # whose copy has yet to come, and since when
        self._only_best_effort: deque[tuple[int, float]] = deque(maxlen=DEPTH)
        self.subscriptions = tuple(
            node.create_subscription(
                String, "instruction", heard, QoSProfile(depth=DEPTH, reliability=reliability), **more
            )
            for heard, reliability, more in (
                (self.on_reliable, ReliabilityPolicy.RELIABLE, without_warning()),
                (self.on_best_effort, ReliabilityPolicy.BEST_EFFORT, {}),
            )
        )

    def on_reliable(self, message: Any) -> None:
        """A message of a reliable publisher."""
        if not _take(self._only_best_effort, message.data):
            self._only_reliable.append((hash(message.data), time.monotonic()))
        self._callback(message)

    def on_best_effort(self, message: Any) -> None:
        """A message of any publisher."""
        if _take(self._only_reliable, message.data):
            return
        self._only_best_effort.append((hash(message.data), time.monotonic()))
        self._callback(message)


class InstructionParameter:
    """The parameter ``instruction``: what was set and has yet to take effect.

    Setting it to the value that it has counts, too: the topic or a goal may have said another.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._set: str | None = None
        node.add_on_set_parameters_callback(self._note)

    def forget(self) -> None:
        """What was set so far has taken effect."""
        self._set = None

    def take(self) -> str | None:
        """What was set since, once; None if nothing was, or somebody else refused it."""
        if self._set is None or self._set != self._node.get_parameter("instruction").value:
            return None
        text, self._set = self._set, None
        return text

    def _note(self, changes: list[Any]) -> SetParametersResult:
        for parameter in changes:
            if parameter.name == "instruction":
                self._set = parameter.value
        return SetParametersResult(successful=True)


def without_warning() -> dict[str, Any]:
    """Options of a subscription: a log that says nothing is received from a best-effort publisher would be wrong where
    another subscription, or this one made anew, hears it.
    """
    try:
        from rclpy.event_handler import SubscriptionEventCallbacks
    except ImportError:  # Humble's name
        from rclpy.qos_event import SubscriptionEventCallbacks
    return {"event_callbacks": SubscriptionEventCallbacks(incompatible_qos=lambda event: None)}


def _take(waiting: deque[tuple[int, float]], text: str) -> bool:
    """Whether ``text`` is one of those ``waiting``. It leaves, and so do those before it, whose copies were lost."""
    while waiting and time.monotonic() - waiting[0][1] > ECHO:
        waiting.popleft()
    key = hash(text)
    if all(known != key for known, _ in waiting):
        return False
    while waiting.popleft()[0] != key:
        pass
    return True


def tell(cycle: Cycle, logger: Any) -> None:
    """Log what the arm is to do now, or why it holds."""
    if cycle.hold is not None:
        logger.error(f"instruction refused, holding: {cycle.hold}")
    elif not cycle.instruction:
        logger.info("instruction: none, holding")
    else:
        logger.info(f"instruction: {cycle.instruction!r}")
