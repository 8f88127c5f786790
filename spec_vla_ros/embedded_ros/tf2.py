"""The part of tf2_ros that a node needs to ask where something is *now*: the newest transforms, no history.

Names and errors are those of tf2_ros; a question about a moment of the past is refused rather than answered wrongly.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_vla_ros.foreign_text import shortened

from .bounds import QUIET
from .logging import get_logger
from .qos import DurabilityPolicy, QoSProfile
from .types import registry

_DEPTH = 100
_MAX_FRAMES = 10_000  # those that come later are not taken in; detectors make a frame per object
_MAX_NAME = 256  # characters of a frame's name
_MAX_LEVELS = 200  # frames between one and its root; each costs a lookup some 20 us


class TransformException(Exception):
    """Base class of what a lookup raises."""


class LookupException(TransformException):
    """A frame is unknown."""


class ConnectivityException(TransformException):
    """Both frames are known, but not connected."""


class ExtrapolationException(TransformException):
    """Not raised here: only the newest transform is kept."""


@dataclass(frozen=True)
class _Edge:
    """Pose of a child frame in its parent: ``rotation`` (4,) xyzw, ``translation`` (3,) m; ``stamp_ns`` 0 = static."""

    parent: str
    rotation: np.ndarray
    translation: np.ndarray
    stamp_ns: int


class Buffer:
    """The newest transform of every child frame."""

    def __init__(self, cache_time: Any = None, node: Any = None) -> None:
        """The arguments are accepted for the sake of tf2_ros; there is no cache and no service."""
        del cache_time, node
        self._edges: dict[str, _Edge] = {}
        self._children: Counter[str] = Counter()  # of each parent

    def set_transform(self, transform: Any, authority: str) -> None:
        """Take a geometry_msgs/TransformStamped; one that is older than the known one of the same child is ignored."""
        del authority
        stamp = transform.header.stamp
        self._store(transform, stamp.sec * 10**9 + stamp.nanosec)

    def set_transform_static(self, transform: Any, authority: str) -> None:
        """The same for a transform that never changes."""
        del authority
        self._store(transform, 0)

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any, timeout: Any = None) -> Any:
        """geometry_msgs/TransformStamped that turns coordinates of ``source_frame`` into those of ``target_frame``.

        ``time`` must be zero ("the newest"); ``timeout`` is ignored, a lookup never waits. The stamp is that of the
        oldest moving transform on the way, zero if all are static. Raises :class:`TransformException`.
        """
        del timeout
        if time.nanoseconds:
            raise NotImplementedError(
                "the embedded runtime keeps the newest transform only; ask with Time(), or install ROS 2"
            )
        source, target = self._to_root(source_frame), self._to_root(target_frame)
        if source[-1].frame != target[-1].frame:
            raise ConnectivityException(f"'{source_frame}' and '{target_frame}' are not in one tree")
        stamps = [step.stamp_ns for step in (*source, *target) if step.stamp_ns]
        rotation, translation = source[-1].rotation, source[-1].translation
        inverse = _conjugate(target[-1].rotation)
        rotation = _multiply(inverse, rotation)
        translation = _rotate(inverse, translation - target[-1].translation)
        return _message(target_frame, source_frame, rotation, translation, min(stamps, default=0))

    def can_transform(
        self, target_frame: str, source_frame: str, time: Any, timeout: Any = None, return_debug_tuple: bool = False
    ) -> Any:
        """Whether a lookup would succeed; with ``return_debug_tuple`` also why not."""
        try:
            self.lookup_transform(target_frame, source_frame, time, timeout)
        except TransformException as error:
            return (False, str(error)) if return_debug_tuple else False
        return (True, "") if return_debug_tuple else True

    def _store(self, transform: Any, stamp_ns: int) -> None:
        child = transform.child_frame_id.lstrip("/")
        known = self._edges.get(child)
        if known is not None and stamp_ns and stamp_ns < known.stamp_ns:
            return
        pose, turn = transform.transform.translation, transform.transform.rotation
        rotation = np.array([turn.x, turn.y, turn.z, turn.w])
        length = float(np.linalg.norm(rotation))
        values = (*rotation, pose.x, pose.y, pose.z)
        if not np.isfinite(values).all() or abs(length - 1.0) > 1e-2:
            return  # tf2 ignores these as well
        parent = transform.header.frame_id.lstrip("/")
        if max(len(child), len(parent)) > _MAX_NAME:
            return
        if known is None and len(self._edges) >= _MAX_FRAMES:
            text = f"frame {shortened(child)} is not taken in: there are {_MAX_FRAMES} already"
            get_logger("tf2").warning(text, throttle_duration_sec=QUIET)
            return
        if known is not None:
            self._children[known.parent] -= 1
            if not self._children[known.parent]:
                del self._children[known.parent]
        self._children[parent] += 1
        self._edges[child] = _Edge(parent, rotation / length, np.array([pose.x, pose.y, pose.z]), stamp_ns)

    def _to_root(self, frame: str) -> list[_Step]:
        """Poses of ``frame`` in itself, its parent, and so on up to the root."""
        frame = frame.lstrip("/")
        if frame not in self._edges and frame not in self._children:
            raise LookupException(f"'{frame}' is not a known frame")
        steps = [_Step(frame, np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3), 0)]
        while (edge := self._edges.get(steps[-1].frame)) is not None:
            if len(steps) > len(self._edges):
                raise ConnectivityException(f"the frames above '{frame}' form a circle")
            if len(steps) > _MAX_LEVELS:
                raise ConnectivityException(f"there are more than {_MAX_LEVELS} frames above '{frame}'")
            last = steps[-1]
            turned = edge.translation + _rotate(edge.rotation, last.translation)
            steps.append(_Step(edge.parent, _multiply(edge.rotation, last.rotation), turned, edge.stamp_ns))
        return steps


@dataclass(frozen=True)
class _Step:
    """Pose of the frame that was asked for in ``frame``."""

    frame: str
    rotation: np.ndarray
    translation: np.ndarray
    stamp_ns: int


class TransformListener:
    """Fills a buffer from /tf and /tf_static, in the executor of the node."""

    def __init__(self, buffer: Buffer, node: Any, *, spin_thread: bool = False) -> None:
        if spin_thread:
            raise NotImplementedError("the embedded runtime has no spin_thread; install ROS 2")
        self._node, message = node, registry().message("tf2_msgs/msg/TFMessage")
        static = QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)

        def take(store: Any) -> Any:
            return lambda received: [store(transform, "") for transform in received.transforms]

        self._subscriptions = (
            node.create_subscription(message, "/tf", take(buffer.set_transform), _DEPTH),
            node.create_subscription(message, "/tf_static", take(buffer.set_transform_static), static),
        )

    def unregister(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quaternion a b, (4,) xyzw."""
    vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
    return np.array([*vector, a[3] * b[3] - a[:3] @ b[:3]])


def _conjugate(q: np.ndarray) -> np.ndarray:
    return q * np.array([-1.0, -1.0, -1.0, 1.0])


def _rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    cross = 2.0 * np.cross(q[:3], v)
    return v + q[3] * cross + np.cross(q[:3], cross)


def _message(target: str, source: str, rotation: np.ndarray, translation: np.ndarray, stamp_ns: int) -> Any:
    message = registry().message("geometry_msgs/msg/TransformStamped")()
    message.header.frame_id, message.child_frame_id = target, source
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    move, turn = message.transform.translation, message.transform.rotation
    move.x, move.y, move.z = (float(value) for value in translation)
    turn.x, turn.y, turn.z, turn.w = (float(value) for value in rotation)
    return message
