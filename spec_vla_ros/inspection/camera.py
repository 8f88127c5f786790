"""One image topic of a recording, watched message by message in constant memory."""

from __future__ import annotations

import heapq
import io
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from spec_vla_ros.errors import ImageError
from spec_vla_ros.image_messages import check_compressed, check_image, is_depth, stated_encoding
from spec_vla_ros.node.parameters import PARAMETERS

from .findings import Report, count_of
from .pixels import Pixels

_DEFAULTS = {spec.name: spec.default for spec in PARAMETERS}
IMAGE_TIMEOUT: float = _DEFAULTS["image_timeout"]  # s
FUTURE_TOLERANCE: float = _DEFAULTS["future_tolerance"]  # s
BACK = 0.05  # s; the node calls a clock that went back further CLOCK_JUMPED
JUMP, SETTLED = 0.5, 0.25  # s; how far stamp and recording move apart at once, and then stay
STAYS = 8  # images for which they do
OTHER_CLOCK = 86_400.0  # s between stamp and recording; nothing is late or early by a day
SPANS = 200  # intervals that differ by less than 1 in this many count as one length
KINDS, REASONS, GAPS = 16, 8, 5  # distinct ones that are kept


@dataclass
class Event:
    """Something that happened several times. ``first``: s since the recording began; ``worst``: s."""

    count: int = 0
    first: float = 0.0
    worst: float = 0.0

    def add(self, at: float, seconds: float) -> None:
        """Once more."""
        if not self.count:
            self.first = at
        self.count, self.worst = self.count + 1, max(self.worst, seconds)


@dataclass
class Camera:
    """``start_ns``: when the recording began. Times are those of stamps, or of the recording where a stamp is zero."""

    topic: str
    compressed: bool
    start_ns: int = 0
    count: int = 0
    usable: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # "640 x 480 rgb8" -> images
    sizes: set[tuple[int, int]] = field(default_factory=set)  # of usable images, px
    reasons: Counter[str] = field(default_factory=Counter)  # why images cannot be used
    depth: int = 0
    pixels: Pixels = field(default_factory=Pixels)
    unstamped: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (s, at) of the longest
    gap: Event = field(default_factory=Event)
    back: Event = field(default_factory=Event)
    repeated: Event = field(default_factory=Event)
    early: Event = field(default_factory=Event)
    late: Event = field(default_factory=Event)
    jump: Event = field(default_factory=Event)
    other_clock: float = 0.0  # s, if stamps and recording go by different clocks
    intervals: int = 0
    _spans: dict[int, tuple[int, float]] = field(default_factory=dict)  # intervals of like length: how many, sum in s
    _last_ns: int | None = None
    _level: float | None = None  # s by which stamps are ahead of the recording, as a rule
    _apart: list[tuple[float, float]] = field(default_factory=list)  # (s, at) of the latest that are not

    @property
    def rate(self) -> float:
        """Images per second while they come, by their stamps."""
        return 1 / self.interval if self.intervals else 0.0

    @property
    def interval(self) -> float:
        """Median time between two images, s; pauses between episodes would move a mean."""
        return self._share(0.5)

    @property
    def jitter(self) -> float:
        """Half the width of the middle two thirds of the intervals, s; the standard deviation if they are normal."""
        return (self._share(0.841) - self._share(0.159)) / 2

    def _share(self, share: float) -> float:
        """The interval than which ``share`` of all are shorter, s."""
        left = share * self.intervals
        for _, (count, seconds) in sorted(self._spans.items()):
            left -= count
            if left <= 0:
                return seconds / count
        return 0.0

    @property
    def is_depth(self) -> bool:
        """Depth images and nothing else."""
        return self.depth == self.count > 0

    def add(self, message: Any, log_ns: int) -> None:
        """The next image."""
        self.count += 1
        self._look(message)
        at = 1e-9 * (log_ns - self.start_ns)
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if stamp_ns:
            self._compare(1e-9 * (stamp_ns - log_ns), at)
        else:
            self.unstamped += 1
        now_ns = stamp_ns or log_ns
        if self._last_ns is not None:
            self._step(1e-9 * (now_ns - self._last_ns), at)
        self._last_ns = now_ns

    def _look(self, message: Any) -> None:
        try:
            if self.compressed:
                name = message.format.split(";")[0].strip() or "unnamed"
                self.depth += "compressedDepth" in message.format or is_depth(stated_encoding(message.format))
                check_compressed(message)
                width, height = _size(message.data, message.format)
            else:
                name, width, height = message.encoding, message.width, message.height
                self.depth += is_depth(name)
                check_image(message)
            self.usable += 1
            self.pixels.add(message, self.compressed)
            if len(self.sizes) < KINDS:
                self.sizes.add((width, height))
            kind = f"{width} x {height} {name}"
        except ImageError as error:
            kind = name if self.compressed else f"{width} x {height} {name}"
            _count(self.reasons, str(error), REASONS)
        _count(self.kinds, kind, KINDS)

    def _step(self, seconds: float, at: float) -> None:
        if seconds < -BACK:
            self.back.add(at, -seconds)
        if seconds == 0:
            self.repeated.add(at, 0.0)
        if seconds > IMAGE_TIMEOUT:
            self.gap.add(at - seconds, seconds)
            (heapq.heappush if len(self.gaps) < GAPS else heapq.heappushpop)(self.gaps, (seconds, at - seconds))
        if seconds > 0:
            self.intervals += 1
            like = round(SPANS * math.log(seconds))
            count, total = self._spans.get(like, (0, 0.0))
            self._spans[like] = (count + 1, total + seconds)

    def _compare(self, offset: float, at: float) -> None:
        """``offset``: s by which the stamp is ahead of the recording."""
        if abs(offset) > OTHER_CLOCK:
            self.other_clock = offset
            return
        if offset > FUTURE_TOLERANCE:
            self.early.add(at, offset)
        if -offset > IMAGE_TIMEOUT:
            self.late.add(at, -offset)
        if self._level is None or abs(offset - self._level) <= JUMP:
            self._level, self._apart = offset, []
            return
        # A step that stays is a clock that was set; one that passes was an image, or a burst of them, that came late.
        if self._apart and abs(offset - self._apart[0][0]) > SETTLED:
            self._apart = []
        self._apart.append((offset, at))
        if len(self._apart) >= STAYS:
            self.jump.add(self._apart[0][1], abs(offset - self._level))
            self._level, self._apart = offset, []

    def describe(self, report: Report) -> None:
        """A section, without judgement."""
        section = report.section(f"images {self.topic}")
        kinds = ", ".join(f"{n} of {kind}" for kind, n in self.kinds.most_common())
        section.add("pictures", kinds or "none", dict(self.kinds))
        section.add("usable", f"{self.usable} of {self.count}", {"usable": self.usable, "images": self.count})
        section.add(
            "rate",
            f"{self.rate:.2f} Hz by the stamps, intervals {1e3 * self.interval:.1f} +- {1e3 * self.jitter:.1f} ms",
            {"hz": round(self.rate, 3), "interval_ms": 1e3 * self.interval, "deviation_ms": 1e3 * self.jitter},
        )
        longest = sorted(self.gaps, reverse=True)
        section.add(
            f"gaps beyond {IMAGE_TIMEOUT:g} s",
            f"{self.gap.count}"
            + (": " if longest else "")
            + ", ".join(f"{s:.2f} s at {at:.1f} s" for s, at in longest),
            {"count": self.gap.count, "longest": [{"seconds": s, "at": at} for s, at in longest]},
        )

    def judge(self, report: Report, used: bool) -> None:
        """Problems. ``used``: it is the camera, so what makes all images useless is an error."""
        topic = self.topic
        if self.is_depth:
            if used:
                report.error(f"{topic} holds depth images, which are not pictures", "Choose the colour camera's topic.")
            return
        if not self.usable:
            say = report.error if used else report.warning
            why = self.reasons.most_common(1)[0][0] if self.reasons else "none was recorded"
            say(f"{topic}: none of {count_of(self.count, 'image')} can be used: {why}", ENCODINGS)
        else:
            for reason, count in self.reasons.most_common():
                report.warning(
                    f"{topic}: {count_of(count, 'image')} cannot be used (IMAGE_INVALID): {reason}", ENCODINGS
                )
        self.pixels.judge(report, topic, used)
        if len(self.kinds) > 1:
            report.warning(
                f"{topic} changes size or encoding: {', '.join(self.kinds)}",
                "Did two drivers publish on one topic? Record one camera per topic.",
            )
        if self.unstamped:
            report.warning(
                f"{topic}: {count_of(self.unstamped, 'image')} stamped zero, which counts as captured at arrival",
                "Let the driver stamp at capture; otherwise the age of an image says nothing about the camera.",
            )
        if self.other_clock:
            report.warning(
                f"{topic}: stamps and recording go by different clocks ({self.other_clock:.0f} s apart)",
                "Simulated time, or a clock that was never set? Ages cannot be judged; play the bag with --clock.",
            )
        self._judge_times(report)

    def _judge_times(self, report: Report) -> None:
        for event, what, remedy in (
            (
                self.gap,
                f"no image for longer than image_timeout {IMAGE_TIMEOUT:g} s",
                "The node would stop there (IMAGE_STALE); a replay begins a new episode. Look at driver, cable, load.",
            ),
            (
                self.early,
                f"stamped more than {FUTURE_TOLERANCE:g} s after it was recorded",
                "The node would stop (IMAGE_FROM_FUTURE): synchronise the clocks of camera and computer (chrony, PTP).",
            ),
            (
                self.late,
                f"older than image_timeout {IMAGE_TIMEOUT:g} s when recorded",
                "The node would stop (IMAGE_STALE): clocks that differ, or images that wait in a queue.",
            ),
            (
                self.back,
                f"stamped more than {BACK:g} s before the image in front of it",
                "The node would stop (CLOCK_JUMPED) if its clock did the same; do not set clocks while recording.",
            ),
            (
                self.jump,
                "from which on stamps and recording are apart by another time than before",
                "One of the clocks was set or jumped; speeds across that moment are wrong.",
            ),
            (self.repeated, "stamped like the image in front of it", "A driver that repeats its last buffer?"),
        ):
            if event.count:
                worst = f", {event.worst:.2f} s at worst" if event.worst else ""
                often = _times(event.count, event is self.gap)
                report.warning(f"{self.topic}: {often} {what}{worst}, first at {event.first:.1f} s", remedy)


ENCODINGS = "Publish rgb8 or bgr8, or another encoding listed in docs/architecture.md, with correct size and step."


def _times(count: int, gap: bool) -> str:
    return ("once" if count == 1 else f"{count} times") if gap else count_of(count, "image")


def _size(data: Any, form: str) -> tuple[int, int]:
    """(width, height) of a JPEG or PNG by its header."""
    try:
        with Image.open(io.BytesIO(bytes(data))) as picture:
            return picture.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"cannot decode a picture of format {form!r}") from error


def _count(counter: Counter[str], name: str, most: int) -> None:
    """Count ``name``, or "others" once there are ``most``: a garbled bag has as many kinds as images."""
    counter[name if name in counter or len(counter) < most else "others"] += 1
