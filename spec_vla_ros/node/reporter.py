"""The /diagnostics topic: by diagnostic_updater where ROS 2 has it, by a plain publisher elsewhere.

Timed by the steady clock in both cases. The updater's own timer follows the ROS clock, and a node whose /clock stands
still has to be able to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock

PERIOD = 1.0  # s
HARDWARE = "spec_vla_ros"


@dataclass(frozen=True)
class Part:
    """One status: level "OK", "WARN" or "ERROR", one line, and the values behind it."""

    level: str
    text: str
    values: Mapping[str, str] = field(default_factory=dict)


class Reporter:
    """Publishes parts by name, once a period and whenever it is told to."""

    def __init__(
        self,
        node: Any,
        look: Callable[[], dict[str, Part]],
        names: tuple[str, ...],
        clock: Clock,
        on_time: Callable[[], None],
    ) -> None:
        """``look`` makes the parts of this moment; ``names``: of all parts that it may make. ``on_time`` is called once
        a period and should call :meth:`report`; it must not raise.
        """
        self._node, self._look, self._parts = node, look, {}
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._updater = _updater(node)
        period = PERIOD
        if self._updater is None:
            self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        else:
            self._updater.timer.cancel()  # see the module
            self._updater.setHardwareID(HARDWARE)
            self._updater.node_name = self._name  # two nodes in two namespaces have one short name
            period = self._updater.period
            for name in names:
                self._updater.add(name, lambda status, name=name: self._fill(status, name))
        self._timer = node.create_timer(period, on_time, clock=clock)

    def report(self) -> None:
        """Look and publish."""
        self.publish(self._look())

    def line(self, level: str, text: str, values: dict[str, str]) -> None:
        """Publish one line about control that stands for itself, such as why configure failed."""
        self.publish({"control": Part(level, text, values)})

    def publish(self, parts: dict[str, Part]) -> None:
        """Publish ``parts`` as they are; those that are missing say nothing new."""
        self._parts = parts
        if self._updater is not None:
            self._updater.force_update()
            return
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        array.status = [self._fill(DiagnosticStatus(name=f"{self._name}: {name}"), name) for name in parts]
        self._publisher.publish(array)

    def _fill(self, status: Any, name: str) -> Any:
        part = self._parts.get(name, Part("OK", "nothing loaded"))
        status.level, status.message = getattr(DiagnosticStatus, part.level), part.text
        status.hardware_id = HARDWARE
        status.values = [KeyValue(key=key, value=value) for key, value in part.values.items()]
        return status


def _updater(node: Any) -> Any:
    try:
        from diagnostic_updater import Updater
    except ImportError:
        return None
    return Updater(node, PERIOD)
