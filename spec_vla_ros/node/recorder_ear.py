"""How rosbag2's recorder is started, and what ROS knows of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rclpy.node import Node

from .middleware import middleware
from .record_setup import Setup

SPLIT = 2 * 2**30  # bytes of one file of a bag
# s that a recorder listens before it counts as ready: that this process has discovered it does not mean that those who
# publish have. On Fast DDS two processes that missed each other's first words hear of each other 3 s later.
SETTLED = {"rmw_fastrtps": 4.0, "": 1.0}  # by the beginning of the middleware's identifier
# Listeners that confirm nothing hold up nobody. A recorder that hangs must not be missed by whoever sends what moves
# the arm, by the camera, or by the feedback of a goal, which counts a client that confirms nothing as gone.
UNCONFIRMED = {"reliability": "best_effort", "durability": "volatile", "history": "keep_last", "depth": 100}
# But for images, where everybody publishes them reliably: of large ones most do not arrive otherwise, and who keeps
# only the last ones waits for nobody.
IMAGES = {**UNCONFIRMED, "reliability": "reliable", "depth": 20}


class RosEar:
    """See :class:`.recorder.Ear`; ``settled`` as there."""

    def __init__(self, node: Node, recorder: str, required: Sequence[str], settled: Callable[[], bool]) -> None:
        from rosbag2_interfaces.srv import Pause, Resume

        self.settled = settled
        self._node, self._name, self._required = node, recorder, required
        self._resume = Call(node, Resume, f"/{recorder}/resume")
        self._pause = Call(node, Pause, f"/{recorder}/pause")
        self._quiet = next(value for name, value in SETTLED.items() if middleware().startswith(name))
        self._since: float | None = None

    def listens(self) -> bool:
        """Whether it hears every topic that it shall record, since :data:`SETTLED`."""
        if self._since is None and self._hears():
            self._since = time.monotonic()
        return self._since is not None and time.monotonic() - self._since > self._quiet

    def _hears(self) -> bool:
        return (
            self._resume.ready()
            and self._pause.ready()
            and all(
                any(info.node_name == self._name for info in self._node.get_subscriptions_info_by_topic(topic))
                for topic in self._required
            )
        )

    def resume(self) -> None:
        """Ask it to record."""
        self._resume.ask()

    def resumed(self) -> bool:
        """Whether it has confirmed that."""
        return self._resume.answered()

    def pause(self) -> None:
        """Ask it to record no more."""
        self._pause.ask()

    def paused(self) -> bool:
        """Whether it has confirmed that."""
        return self._pause.answered()

    def close(self) -> None:
        """It is gone."""
        self._resume.close()
        self._pause.close()


class Call:
    """One call of a service of ``kind``, whose answer says nothing but that it was carried out."""

    def __init__(self, node: Node, kind: Any, name: str) -> None:
        self._node, self._request, self._answer = node, kind.Request, None
        self._client = node.create_client(kind, name)

    def ready(self) -> bool:
        """Whether it can be asked."""
        return self._client.service_is_ready()

    def ask(self) -> None:
        """Ask, and do not wait."""
        self._answer = self._client.call_async(self._request())

    def answered(self) -> bool:
        """Whether that was carried out."""
        return self._answer is not None and self._answer.done()

    def close(self) -> None:
        """No more."""
        self._node.destroy_client(self._client)


def words(setup: Setup, name: str, bag: Path, confirmed: bool = False) -> list[str]:
    """What starts rosbag2's recorder: of these topics, paused, into ``bag``; ``confirmed``: whether all who publish
    images do so reliably. Raises ``OSError``.
    """
    overrides = bag.with_name("qos.yaml")
    profiles = dict.fromkeys(setup.unconfirmed, UNCONFIRMED)
    if confirmed:
        profiles[setup.images] = IMAGES
    overrides.write_text(json.dumps(profiles), encoding="utf-8")  # JSON is YAML
    return [
        *("ros2", "bag", "record", "--output", str(bag), "--node-name", name, "--start-paused"),
        *("--disable-keyboard-controls", "--include-hidden-topics", "--include-unpublished-topics"),
        *("--qos-profile-overrides-path", str(overrides), "--max-bag-size", str(SPLIT), "--topics", *setup.topics),
    ]
