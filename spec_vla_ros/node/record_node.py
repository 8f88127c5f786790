"""The process that has episodes recorded, beside the act node and started by it, where ``record_to`` asks for it.

It keeps one paused recorder of rosbag2 in spare (:mod:`.recorder`), lets it go on when the act node says that an
episode begins, tells what explains the episode into the bag, and ends it. Whatever is slow or fails here, a disk, a
service call, rosbag2 itself, does so in this process: the act node sends a datagram, never waits for this one, and
reads its reports. When the act node is gone, however it went, the bags are closed and this process ends.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # Ctrl-C reaches the group; the act node sees to this process, and no traceback helps it
    signal.signal(signal.SIGINT, lambda *_: None)  # not ignored, which recorders would inherit

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions

from spec_vla_ros.episode_record import BEGUN, ENDED, Outcome
from spec_vla_ros.foreign_text import sentence
from spec_vla_ros.msg import EpisodeRecord

from .middleware import weakest
from .record_setup import LARGEST, Report, Setup
from .recorder import Phase, Recorder, put_away_others
from .recorder_ear import RosEar, words

WATCH = 0.02  # s between two looks
AT_ONCE = 0.001  # the same while the act node waits for a recorder
REPORT = 0.2  # s between two reports where nothing has changed
SPACE = 1.0  # s between two looks at the free space
AGAIN = 5.0  # s after something has failed until the next recorder is started
STEADY = 60.0  # s
NICE = 5
CALLBACKS = 20  # at most in one turn


@dataclass
class Job:
    """One episode. ``told``: the act node's words at its beginning; ``end``: those at its end, once there are any."""

    number: int
    told: dict[str, Any]
    recorder: Recorder
    begun: bool = False
    end: dict[str, Any] | None = None
    ended: bool = False


class Keeper:
    """Everything that this process does; :meth:`run` returns when the act node and all recorders are gone."""

    def __init__(self, link: socket.socket, setup: Setup) -> None:
        self._link, self._setup = link, setup
        self._root = Path(setup.root)
        self._node = Node(setup.node, namespace=setup.namespace, start_parameter_services=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._publisher = self._node.create_publisher(EpisodeRecord, setup.record, QoSProfile(depth=10))
        # Whoever begins to listen to velocities may be an arm, and makes the one that moves stop for a moment. So it is
        # this process that listens, from before the arm moves on, and recorders come and go on a topic of copies.
        self._copies = self._node.create_publisher(TwistStamped, setup.copies, QoSProfile(depth=100))
        beside = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._node.create_subscription(TwistStamped, setup.velocities, self._copy, beside, raw=True)
        self._velocity = b""  # the newest
        self._spare: Recorder | None = None
        self._confirmed, self._restarted_at = False, -STEADY  # how the spare hears images
        self._jobs: list[Job] = []
        self._number = 0  # of recorders
        self._next_try = self._space_at = 0.0
        self._free, self._missed, self._bags, self._last = -1, 0, 0, ""
        self._failure = ""  # of recorders, until one is ready
        self._notes: list[str] = []
        self._told, self._told_at = Report(), 0.0
        self._alone = False  # the act node is gone

    def run(self) -> None:
        """See the class."""
        self._adopt()
        while not self._alone or self._jobs or self._spare is not None:
            self._listen()
            for _ in range(CALLBACKS):  # velocities come more often than this loop turns
                self._executor.spin_once(timeout_sec=0.0)
            now = time.monotonic()
            self._look(now)
            self._tell(now)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    # -- the act node ------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._alone:
            time.sleep(WATCH)
            return
        waited_for = any(job.recorder.phase in (Phase.READY, Phase.RESUMING) for job in self._jobs)
        if not select.select([self._link], [], [], AT_ONCE if waited_for else WATCH)[0]:
            return
        try:
            data = self._link.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._abandon()
            return
        message = json.loads(data)
        if (told := message.get("begin")) is not None:
            self._begin(told)
        elif (told := message.get("end")) is not None:
            for job in self._jobs:
                if job.number == told["number"]:
                    job.end = told

    def _abandon(self) -> None:
        self._alone = True
        gone = {"outcome": int(Outcome.NODE_GONE), "message": "the act node is gone"}
        for job in self._jobs:
            if job.end is None:
                job.end = gone
        if self._spare is not None:
            self._spare.end()

    def _begin(self, told: dict[str, Any]) -> None:
        for job in self._jobs:  # its end was lost
            if job.end is None:
                job.end = {"outcome": int(Outcome.UNKNOWN), "message": "another episode has begun"}
        recorder, self._spare = self._spare, None
        if recorder is None or not recorder.usable or not self._enough():
            self._spare, self._missed = recorder, told["number"]
            self._note(f"{told['name']} is not recorded: {self._trouble() or 'no recorder is ready'}")
            return
        recorder.begin(told["name"])
        self._jobs.append(Job(told["number"], told, recorder))

    def _tell(self, now: float) -> None:
        recording = [job for job in self._jobs if job.begun and not job.ended]
        report = Report(
            spare="" if self._spare is None else self._spare.phase.value,
            recording=recording[-1].number if recording else 0,
            missed=self._missed,
            name=recording[-1].told["name"] if recording else "",
            trouble=self._trouble(),
            free=self._free,
            bags=self._bags,
            last=self._last,
            notes=tuple(self._notes),
        )
        if self._alone or (report == self._told and now - self._told_at < REPORT):
            return
        with contextlib.suppress(OSError):  # the node does not read, or is gone; it is told again
            self._link.send(replace(report, at=now).to_bytes(), socket.MSG_DONTWAIT)
            self._told, self._told_at = replace(report, notes=()), now
            self._notes.clear()

    def _trouble(self) -> str:
        if not self._enough():
            return (
                f"{self._free / 2**30:.1f} GiB are free in {self._root}, record_keep_free is "
                f"{self._setup.keep_free / 2**30:.1f} GiB"
            )
        return self._failure

    def _note(self, text: str) -> None:
        self._notes.append(sentence(text))
        del self._notes[:-10]

    # -- recorders -----------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Bags that an earlier process left behind."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for path in put_away_others(self._root):
                self._note(f"{path} was left by a process that was killed")
        except OSError as error:
            self._failure = _words(error)

    def _look(self, now: float) -> None:
        if now - self._space_at > SPACE:
            self._space_at = now
            try:
                self._free = shutil.disk_usage(self._root).free
            except OSError as error:
                self._free, self._failure = -1, _words(error)
        for job in list(self._jobs):
            self._look_at_job(job, now)
        if self._spare is not None:
            self._look_at_spare(now)
        if self._spare is None and not self._alone and now >= self._next_try and self._enough():
            self._start(now)

    def _enough(self, share: float = 1.0) -> bool:
        """Whether a recording may begin, or go on, where ``share`` of the wanted space is enough."""
        return self._free < 0 or self._free >= share * self._setup.keep_free

    def _look_at_job(self, job: Job, now: float) -> None:
        recorder = job.recorder
        if job.end is None and not self._enough(0.5):
            self._missed = job.number
            job.end = {"outcome": int(Outcome.NOT_RECORDED), "message": self._trouble()}
        place = self._jobs.index(job)
        wait = any(other.recorder.hears for other in self._jobs[:place])
        try:
            recorder.look(now, wait, hurry=place + 1 < len(self._jobs))
        except OSError as error:
            recorder.trouble = _words(error)
            recorder.end()
        if recorder.phase is Phase.RECORDING:
            if not job.begun:
                job.begun = True
                self._publish(job.told, BEGUN)
            if job.end is not None and not job.ended:
                job.ended = True
                self._publish({**job.told, "elapsed": now - job.told["at"], **job.end}, ENDED)
        if job.end is not None and (job.ended or not (job.begun or recorder.phase is Phase.RESUMING)):
            recorder.end()
        if recorder.phase is not Phase.GONE:
            return
        self._jobs.remove(job)
        if job.end is None or not job.begun:
            self._missed = job.number
        if recorder.path is not None:
            self._bags, self._last = self._bags + 1, recorder.path.name
            self._note(f"recorded: {recorder.path}")
        else:
            self._note(f"{recorder.name} is not recorded: it was over before the recorder was ready")
        self._blame(recorder, now)

    def _look_at_spare(self, now: float) -> None:
        try:
            self._spare.look(now)
        except OSError as error:
            self._spare.trouble = _words(error)
            self._spare.end()
        if self._spare.usable and self._deaf(now):
            self._note("the spare recorder is started anew: images are published with another reliability now")
            self._restarted_at = now
            self._spare.end()
        elif self._spare.phase is Phase.READY:
            self._failure = ""
        elif self._spare.phase is Phase.GONE:
            self._blame(self._spare, now)
            self._spare = None

    def _blame(self, recorder: Recorder, now: float) -> None:
        if recorder.trouble:
            self._failure, self._next_try = recorder.trouble, now + AGAIN
            self._note(recorder.trouble)

    def _start(self, now: float) -> None:
        self._number += 1
        name = f"{self._setup.node}_{os.getpid()}_{self._number}"
        ear = None
        try:
            ear = RosEar(self._node, name, self._setup.required, self._settled)
            self._confirmed = bool(self._reliable())
            said = functools.partial(words, self._setup, name, confirmed=self._confirmed)
            self._spare = Recorder(self._root, self._number, said, ear)
        except (OSError, ImportError) as error:
            if ear is not None:
                ear.close()
            self._failure, self._next_try = _words(error), now + AGAIN
            self._note(self._failure)

    def _reliable(self) -> bool | None:
        """Whether all who publish images do so reliably; None where nobody does."""
        infos = self._node.get_publishers_info_by_topic(self._setup.images)
        offered = weakest(info.qos_profile.reliability for info in infos)
        return offered == ReliabilityPolicy.RELIABLE if infos else None

    def _deaf(self, now: float) -> bool:
        """Whether the spare would miss images: all where it wants more than is offered, else many of large ones, for
        which none is started anew more often than every :data:`STEADY`: publishers may come and go.
        """
        offered = self._reliable()
        if offered is None or offered == self._confirmed:
            return False
        return self._confirmed or now - self._restarted_at > STEADY

    def _settled(self) -> bool:
        """Whether all that was said for recorders has arrived there, and the arm stands."""
        said = self._publisher, self._copies
        return self._still() and all(one.wait_for_all_acked(Duration(seconds=0)) for one in said)

    def _still(self) -> bool:
        if not self._velocity:
            return True
        twist = deserialize_message(self._velocity, TwistStamped).twist
        return not any((*_vector(twist.linear), *_vector(twist.angular)))

    def _copy(self, data: bytes) -> None:
        self._velocity = data
        if self._jobs:
            self._copies.publish(data)

    def _publish(self, told: dict[str, Any], phase: int) -> None:
        message = EpisodeRecord(phase=phase)
        message.header.stamp = self._node.get_clock().now().to_msg()
        for name, value in told.items():
            if name in EpisodeRecord.get_fields_and_field_types():
                setattr(message, name, value)
        self._publisher.publish(message)


def _vector(message: Any) -> tuple[float, float, float]:
    return message.x, message.y, message.z


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return sentence(f"{error.filename or 'the folder of bags'}: {error.strerror or error}")
    return sentence(error)


def main(args: list[str] | None = None) -> int:
    """``--fd``: of the socket, ``--setup``: the fields of :class:`Setup` as JSON, then arguments of ROS."""
    parser = argparse.ArgumentParser(description="Has episodes recorded; the act node starts it.")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--setup", type=json.loads, required=True)
    known, ros = parser.parse_known_args(args)
    for number in (signal.SIGINT, signal.SIGTERM):  # the end of the act node is what counts
        signal.signal(number, lambda *_: None)
    os.nice(NICE)  # and the recorders with it: whoever drives an arm goes first
    link = socket.socket(fileno=known.fd)
    link.setblocking(False)
    rclpy.init(args=ros, signal_handler_options=SignalHandlerOptions.NO)
    keeper = Keeper(link, Setup(**known.setup))
    try:
        keeper.run()
    finally:
        keeper.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
