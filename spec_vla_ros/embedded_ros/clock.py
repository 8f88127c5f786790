"""Time, durations and the three clocks. Loops that must not stop run on the steady clock."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Any

from .types import registry


class ClockType(IntEnum):
    """Which clock: ROS time follows ``/clock`` when ``use_sim_time`` is set."""

    UNINITIALIZED = 0
    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3


class Duration:
    """A signed span of time in nanoseconds."""

    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None:
        self.nanoseconds = int(seconds * 1_000_000_000) + int(nanoseconds)

    def to_msg(self) -> Any:
        """builtin_interfaces/Duration."""
        seconds, rest = divmod(self.nanoseconds, 1_000_000_000)
        return registry().message("builtin_interfaces/msg/Duration")(sec=seconds, nanosec=rest)

    @classmethod
    def from_msg(cls, message: Any) -> Duration:
        """From builtin_interfaces/Duration."""
        return cls(seconds=message.sec, nanoseconds=message.nanosec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Duration) -> bool:
        return self.nanoseconds < other.nanoseconds

    def __le__(self, other: Duration) -> bool:
        return self.nanoseconds <= other.nanoseconds

    def __gt__(self, other: Duration) -> bool:
        return self.nanoseconds > other.nanoseconds

    def __ge__(self, other: Duration) -> bool:
        return self.nanoseconds >= other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __repr__(self) -> str:
        return f"Duration(nanoseconds={self.nanoseconds})"


class Time:
    """A point in time of one clock type. Different clock types cannot be compared or subtracted."""

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        if seconds < 0 or nanoseconds < 0:
            raise ValueError("time values must not be negative")
        self.nanoseconds = int(seconds * 1_000_000_000) + int(nanoseconds)
        self.clock_type = ClockType(clock_type)

    def seconds_nanoseconds(self) -> tuple[int, int]:
        """Whole seconds and the rest."""
        return divmod(self.nanoseconds, 1_000_000_000)

    def to_msg(self) -> Any:
        """builtin_interfaces/Time."""
        seconds, rest = self.seconds_nanoseconds()
        return registry().message("builtin_interfaces/msg/Time")(sec=seconds, nanosec=rest)

    @classmethod
    def from_msg(cls, message: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        """From builtin_interfaces/Time."""
        return cls(seconds=message.sec, nanoseconds=message.nanosec, clock_type=clock_type)

    def _same_clock(self, other: Time) -> None:
        if self.clock_type != other.clock_type:
            raise TypeError("Can't compare or subtract times with different clock types")

    def __add__(self, other: Duration) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        return Time(nanoseconds=self.nanoseconds + other.nanoseconds, clock_type=self.clock_type)

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Time):
            self._same_clock(other)
            return Duration(nanoseconds=self.nanoseconds - other.nanoseconds)
        if isinstance(other, Duration):
            return Time(nanoseconds=self.nanoseconds - other.nanoseconds, clock_type=self.clock_type)
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._same_clock(other)
        return self.nanoseconds == other.nanoseconds

    def __lt__(self, other: Time) -> bool:
        self._same_clock(other)
        return self.nanoseconds < other.nanoseconds

    def __le__(self, other: Time) -> bool:
        self._same_clock(other)
        return self.nanoseconds <= other.nanoseconds

    def __gt__(self, other: Time) -> bool:
        return other < self

    def __ge__(self, other: Time) -> bool:
        return other <= self

    def __hash__(self) -> int:
        return hash((self.nanoseconds, self.clock_type))

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self.nanoseconds}, clock_type={self.clock_type.name})"


class Clock:
    """``now()`` of one clock type. A node's ROS clock shows simulated time while ``simulated`` is not None."""

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self.clock_type = ClockType(clock_type)
        self.simulated: int | None = None

    @property
    def ros_time_is_active(self) -> bool:
        """Does the clock follow ``/clock``?"""
        return self.simulated is not None

    def now(self) -> Time:
        """The present time."""
        if self.clock_type == ClockType.STEADY_TIME:
            nanoseconds = time.monotonic_ns()
        else:
            nanoseconds = time.time_ns() if self.simulated is None else self.simulated
        return Time(nanoseconds=nanoseconds, clock_type=self.clock_type)


class ROSClock(Clock):
    """The clock type of nodes."""

    def __init__(self) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
