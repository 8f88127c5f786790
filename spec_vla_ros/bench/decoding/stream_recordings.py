"""Streams of actions from recordings of the node and from LeRobot data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spec_vla_ros.recordings.errors import BagError

from .stream_tokens import ACTIONS, BINS, IDS, OUTSIDE, Recorded, StreamError, checked, kind_of, table

GAP = 1.0  # s without an action, or three steps if that is longer: another episode, as for replays


def read_bag(path: Path, wanted: str = "") -> Recorded:
    """The DeltaActions of a recording: their tokens, else their bins, else what they move. An episode ends where the
    instruction changes, after a gap, where time or the node's count goes back, and where something was lost.

    ``wanted``: topic, where there are several. Raises :class:`BagError`, :class:`.stream_tokens.StreamError`.
    """
    from spec_vla_ros.recordings.frames import action_topics
    from spec_vla_ros.recordings.reader import Bag

    bag = Bag(path)
    topics = action_topics(bag)
    if not topics:
        raise BagError(
            f"{path} holds no DeltaAction: a recording of the node has them on act/action; its topics are "
            f"{', '.join(sorted(bag.topics))}"
        )
    if (wanted and wanted not in topics) or (not wanted and len(topics) > 1):
        what = f"{wanted} is no topic of DeltaActions" if wanted else "which topic are the actions? (--action-topic)"
        raise BagError(f"{path}: {what}; there are {', '.join(topics)}")
    messages, starts, stamps, steps, last = [], [], [], [], None
    for recorded in bag.messages({wanted or topics[0]}):
        message = recorded.message
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec or recorded.log_ns
        if last is None or recorded.after_loss or _parted(last, message, stamp - stamps[-1]):
            starts.append(len(messages))
        messages.append(message)
        stamps.append(stamp)
        steps.append(float(message.step_dt))
        last = message
    if not messages:
        raise BagError(f"{path} holds no DeltaAction that could be read: {bag.broken or 'the topic is empty'}")
    notes = [bag.broken] if bag.broken else []
    rate = _rate(stamps, starts, steps, notes)
    said, rows = _numbers(str(path), messages)
    values = table(str(path), rows, _message)
    kind = {"tokens": IDS, "bins": BINS}.get(said, ACTIONS)
    if kind != ACTIONS and kind_of(str(path), values, said, _message) != kind:
        raise StreamError(f"{path}: the {said} of its DeltaActions are in the range of others: who wrote them?")
    if dry := sum(not message.commanded for message in messages):
        notes.append(f"{dry} of its actions were not given to the arm")
    lengths = np.diff([*starts, len(messages)]).tolist()
    return Recorded(str(path), kind, values, lengths, rate, notes, _message, "this recording")


def read_lerobot(path: Path) -> Recorded:
    """The actions of a LeRobot data set; a change of task or a frame that is missing begins another episode.
    Raises :class:`.stream_tokens.StreamError`.
    """
    try:
        from spec_vla_ros.lerobot.meta import DataSet, LeRobotError
        from spec_vla_ros.lerobot.rows import read_actions, read_rows
    except ImportError as error:
        raise StreamError(f"{path}: LeRobot data sets need pip install 'spec_vla_ros[train]' ({error})") from error
    try:
        data = DataSet(path)
        key = data.action()
        if not key:
            raise StreamError(f"{path}: the features of meta/info.json name no action")
        data.require_files()
        rows = read_rows(data, [key])
        values = read_actions(data, rows, key, len(rows))
    except LeRobotError as error:
        raise StreamError(str(error)) from error
    checked(str(path), values, _data_row)
    other = (np.diff(rows.episode) != 0) | (np.diff(rows.task) != 0) | (np.diff(rows.frame) != 1)
    lengths = np.diff([0, *(np.flatnonzero(other) + 1), len(values)]).tolist()
    notes = [f"{key} as it is: whether it says motions or positions is not known"]
    if rows.differs(data.fps):
        notes.append(f"meta/info.json says {data.fps:g} Hz, the median interval counts")
    return Recorded(str(path), ACTIONS, values, lengths, rows.rate, notes, _data_row, "this data set")


def _parted(last: object, message: object, pause_ns: int) -> bool:
    """Whether a DeltaAction does not go on from the one before it."""
    gap = max(GAP, 3 * message.step_dt)
    restarted = message.sequence <= last.sequence and message.sequence > 0
    return message.instruction != last.instruction or restarted or not 0 <= pause_ns < 1e9 * gap


def _rate(stamps: list[int], starts: list[int], steps: list[float], notes: list[str]) -> float | None:
    """Hz, by the stamps; by the duration of a step where there are no two in a row."""
    pauses = 1e-9 * np.delete(np.diff(stamps), np.array(starts[1:], dtype=int) - 1)
    pauses = pauses[pauses > 0]
    step = float(np.median(steps))
    if not len(pauses):
        return 1 / step if step > 0 else None
    rate = 1 / float(np.median(pauses))
    if step > 0 and abs(rate * step - 1) > OUTSIDE:
        notes.append(f"its steps last {step:.3g} s, but actions came {rate:.3g} times a second, which counts")
    return rate


def _numbers(path: str, messages: list) -> tuple[str, list]:
    """What the messages say in the best way that all of them have."""
    for said in ("tokens", "bins"):
        there = [len(getattr(message, said)) > 0 for message in messages]
        if all(there):
            return said, [getattr(message, said).tolist() for message in messages]
        if any(there):
            first = there.index(False)
            raise StreamError(f"{path}: {_message(first)} has no {said}, others have: two nodes on one topic?")
    return "", [[*message.delta.tolist(), message.gripper] for message in messages]


def _message(index: int) -> str:
    return f"action {index}"


def _data_row(index: int) -> str:
    return f"row {index}"
