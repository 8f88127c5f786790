"""Which recorded images a policy would have seen, and under which instruction: for replays and for training. No ROS.

As in the node: one image per step of the data set, the newest instruction counts, and a change of it forgets the
actions before. Images are converted when they are asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spec_vla_ros.errors import ImageError, InstructionError
from spec_vla_ros.image_messages import check_compressed, check_image, rgb_from_compressed, rgb_from_image
from spec_vla_ros.instruction import clean_instruction

from .errors import BagError
from .reader import ACTION, Bag, Recorded, words

TWIST = "geometry_msgs/msg/TwistStamped"
EARLY = 0.05  # of a period; an image this much before its turn is taken, cameras jitter


@dataclass(frozen=True)
class ReplayFrame:
    """One image that is used. ``stamp_ns``: of its header, or of the recording where the driver does not stamp.

    ``fresh``: the first one of an episode, that is of an instruction or after a gap.
    """

    index: int
    stamp_ns: int
    instruction: str
    fresh: bool
    message: Any
    compressed: bool
    episode: str = ""  # name of its recording, where several are read as one

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8. Raises :class:`ImageError`."""
        return (rgb_from_compressed if self.compressed else rgb_from_image)(self.message)


@dataclass
class Commands:
    """What the recording says of the arm's motion.

    ``actions``: image stamp (ns) -> (7,) of a DeltaAction, as the model said it, before ``action_scale`` and limits
    like the replayed ones. ``not_commanded``: DeltaActions that the arm was not given, which are left out. ``twists``:
    rows of time (ns) and (6,) m/s, rad/s, as sent.
    """

    actions: dict[int, np.ndarray] = field(default_factory=dict)
    not_commanded: int = 0
    twists: list[tuple[int, np.ndarray]] = field(default_factory=list)
    _made: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    def at(self, stamp_ns: int, period: float) -> np.ndarray | None:
        """(6,) motion (m, rad) of the action for the image of ``stamp_ns``, or that was sent in ``period`` s after it.

        The latter begins with the end of the action before, because the image's own came an inference later.
        """
        if (action := self.actions.get(stamp_ns)) is not None:
            return action[:6]
        if self.actions or not self.twists:
            return None
        times, twists = self._arrays()
        end = stamp_ns + int(period * 1e9)
        first, last = np.searchsorted(times, [stamp_ns, end])
        if last - first < 2:
            return None
        inside = np.append(times[first:last], end)
        spans = np.minimum(np.diff(inside) * 1e-9, 0.1)[:, None]  # s; a sink stops by itself after 0.1 s of silence
        return (twists[first:last] * spans).sum(0)

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (N,) ns and twists (N, 6); made once, because every image of every decoder asks."""
        if self._made is None or len(self._made[0]) != len(self.twists):
            times = np.array([at for at, _ in self.twists], dtype=np.int64)
            self._made = times, np.array([twist for _, twist in self.twists])
        return self._made


@dataclass
class Frames:
    """Iterates once; afterwards the counters say what became of the rest.

    ``instruction_topic``: "" = the likely one; of DeltaActions, each says what its image was asked with.
    ``instruction``: in place of the recorded ones. ``period``: s between two images that are used, 0 = all.
    ``command_topic``: of what the arm was told, "" = not read.
    """

    bag: Bag
    image_topic: str
    instruction_topic: str = ""
    instruction: str = ""
    period: float = 0.2
    command_topic: str = ""
    used: int = 0
    between: int = 0  # images between two steps
    without_instruction: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)  # reason -> images
    refused: list[str] = field(default_factory=list)  # why instructions could not be used; each reason once
    commands: Commands = field(default_factory=Commands)

    def __post_init__(self) -> None:
        """Check topics. Raises :class:`BagError`."""
        self.compressed = self.bag.topics[self.image_topic].endswith("CompressedImage")
        if self.instruction:
            self.instruction, self.instruction_topic = clean_instruction(self.instruction), ""
        else:
            self.instruction_topic = self.bag.instruction_topic(self.instruction_topic)
            if not self.instruction_topic:
                raise self.bag.silent()
        if self.command_topic and self.bag.topics.get(self.command_topic) not in (ACTION, TWIST):
            found = ", ".join(name for name, kind in sorted(self.bag.topics.items()) if kind in (ACTION, TWIST))
            raise BagError(
                f"{self.bag.path}: {self.command_topic} is no DeltaAction or TwistStamped topic; there are: "
                f"{found or 'none'}"
            )

    def again(self) -> Frames:
        """The same frames once more, from the first."""
        return Frames(
            self.bag, self.image_topic, self.instruction_topic, self.instruction, self.period, self.command_topic
        )

    @property
    def images(self) -> int:
        """Images of the topic, as far as the recording knows."""
        return self.bag.counts.get(self.image_topic, 0)

    def __iter__(self) -> Iterator[ReplayFrame]:
        """The frames in order."""
        carried = self._carried() if self.bag.topics.get(self.instruction_topic) == ACTION else None
        topics = {self.image_topic, self.command_topic, self.instruction_topic if carried is None else ""} - {""}
        instruction, fresh, last, lost = self.instruction, True, None, False
        for recorded in self.bag.messages(topics):
            if recorded.after_loss:  # what was said in between is not known
                instruction, fresh, lost = self.instruction, True, True
            if recorded.topic == self.image_topic:
                stamp = _stamp(recorded)
                if carried is not None:
                    if lost:
                        carried.forget(stamp)
                    said = self._said(carried.at(stamp))
                    fresh, instruction, lost = fresh or said != instruction, said, False
                if not instruction:
                    self.without_instruction += 1
                    continue
                if last is not None and not fresh and 0 <= stamp - last < (1 - EARLY) * self.period * 1e9:
                    self.between += 1
                    continue
                if problem := self._problem(recorded.message):
                    self.unreadable[problem] = self.unreadable.get(problem, 0) + 1
                    continue
                if last is not None and not 0 <= stamp - last < 1e9 * max(1.0, 3 * self.period):
                    fresh = True  # a gap, or time went back: another episode
                yield ReplayFrame(self.used, stamp, instruction, fresh, recorded.message, self.compressed)
                self.used, last, fresh = self.used + 1, stamp, False
            elif recorded.topic == self.command_topic:
                self._command(recorded)
            else:
                said = self._said(words(recorded))
                fresh, instruction = fresh or said != instruction, said

    def first_instruction(self) -> str:
        """What the first image under an instruction is asked with; empty if there is none. Reads no further."""
        said = self.instruction
        if said:
            return said
        if self.bag.topics.get(self.instruction_topic) == ACTION:
            spoken = (self._said(words(recorded)) for recorded in self._actions())
            return next(filter(None, spoken), "")
        for recorded in self.bag.messages({self.image_topic, self.instruction_topic}):
            if recorded.topic != self.image_topic:
                said = self._said(words(recorded))
            elif said:
                return said
        return ""

    def _actions(self) -> Iterator[Recorded]:
        return self.bag.messages({self.instruction_topic})

    def _carried(self) -> _Carried:
        """One reading more, because an action is recorded an inference after its image."""
        found = [(_stamp(recorded), words(recorded)) for recorded in self._actions()]
        return _Carried(sorted(found, key=lambda one: one[0]))

    def _problem(self, message: Any) -> str:
        try:
            (check_compressed if self.compressed else check_image)(message)
        except ImageError as error:
            return str(error)
        return ""

    def _said(self, text: str) -> str:
        try:
            return clean_instruction(text) if text.strip() else ""
        except InstructionError as error:
            if str(error) not in self.refused:
                self.refused.append(str(error))
            return ""

    def _command(self, recorded: Recorded) -> None:
        message = recorded.message
        if recorded.type == ACTION:
            if not message.commanded:
                self.commands.not_commanded += 1
                return
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            self.commands.actions[stamp] = np.array([*message.delta, message.gripper], dtype=np.float64)
        elif recorded.type == TWIST:
            linear, angular = message.twist.linear, message.twist.angular
            twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
            self.commands.twists.append((_stamp(recorded), twist))


class _Carried:
    """Instructions that the node's own actions carry, by the stamps of their images."""

    def __init__(self, found: list[tuple[int, str]]) -> None:
        self._stamps, self._texts = [stamp for stamp, _ in found], [text for _, text in found]
        self._since = 0

    def forget(self, stamp: int) -> None:
        """What was said for images before ``stamp`` (ns) does not count any more."""
        self._since = stamp

    def at(self, stamp: int) -> str:
        """What the node had been told for the image of ``stamp`` (ns), or last before it; empty if nothing."""
        place = bisect_right(self._stamps, stamp) - 1
        return self._texts[place] if place >= 0 and self._stamps[place] >= self._since else ""


def action_topics(bag: Bag) -> list[str]:
    """Topics of DeltaActions. A single one is compared with; velocities only if they are named, since they are scaled
    and limited, and nothing says whose they are.
    """
    return [name for name, kind in sorted(bag.topics.items()) if kind == ACTION and bag.counts.get(name, 1)]


def _stamp(recorded: Recorded) -> int:
    stamp = recorded.message.header.stamp
    return stamp.sec * 10**9 + stamp.nanosec or recorded.log_ns
