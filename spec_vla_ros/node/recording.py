"""The act node's side of ``record_to``: one bag per executed instruction, and nothing that the arm has to wait for.

Before the first image of an episode is looked at, the recorder has to say that it records, for at most
:data:`PATIENCE`: the arm stands still then anyway. After that the episode goes on without, and says so.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.episode_record import TOPIC, episode_name
from spec_vla_ros.machine import versions
from spec_vla_ros.outputs import OutputError, require

from . import diagnostics
from .cycle import Cycle
from .episodes import End, Episode, Episodes, View
from .goal import Goal
from .goal_link import NAME as EXECUTE
from .guarded import log_traceback
from .parameters import Fixed
from .record_link import RecordLink
from .record_setup import Setup
from .reporter import Part

# s that the first image of an episode waits for the recorder: a ready one on a busy machine takes 0.2. Where another
# episode ends with it, up to 0.8, until its bag has all of it.
PATIENCE = 1.5
READY = 10.0  # s that configure waits for the recording process
WATCH = 0.01  # s between two looks while it does
GIB = 2**30
SETTINGS = 1000  # characters of one parameter's value that are kept


@dataclass
class _State:
    """Of the episode under way. ``waiting``: for the recorder. ``from_start``: see msg/EpisodeRecord.msg."""

    name: str
    waiting: bool = True
    from_start: bool = False


def folder_of(text: str) -> Path:
    """The folder that ``record_to`` names; raises ``ValueError`` where nothing can be recorded, and why."""
    missing = [name for name in ("rosbag2_interfaces", "rosbag2_py") if importlib.util.find_spec(name) is None]
    if missing or shutil.which("ros2") is None:
        raise ValueError(
            "record_to needs the recorder of ROS 2 (packages rosbag2 and ros2cli), which is not there "
            f"({', '.join(missing) or 'no command ros2'}); leave it empty, or source a ROS 2 that has it"
        )
    path = Path(text).expanduser().absolute()
    try:
        require(path, folder=True)
    except OutputError as error:
        raise ValueError(f"record_to: {error}") from error
    return path


class Recording:
    """Episodes of one configured node. The executor's thread owns it."""

    def __init__(
        self, node: Any, fixed: Fixed, camera: str, look_anew: Callable[[float], bool], on_news: Callable[[], None]
    ) -> None:
        """``camera``: full name of the topic of images. ``look_anew``: :meth:`.cycle.Cycle.look_anew`. ``on_news`` is
        called by another thread. Raises ``ValueError`` where nothing can be recorded.
        """
        self.folder = folder_of(fixed.record_to)
        self._node, self._look_anew = node, look_anew
        self._about: dict[str, Any] = {}
        self._topics = _topics(node, camera)
        setup = _setup(node, self.folder, fixed.record_keep_free, self._topics, fixed.gripper_interface == "topic")
        self._link = RecordLink(setup, on_news)
        self._episodes = Episodes(self._on_begin, self._on_end)
        self._state: _State | None = None
        self._waited = ""  # ms, for the recorder of the newest episode
        self._missed = 0  # episodes that are not, or not from their start, in a bag

    def describe(self, description: dict[str, str], identity: dict[str, Any]) -> None:
        """What has been loaded: in the policy's words, and what it is made of."""
        self._about = {"policy": description, "identity": identity, "versions": versions(), "topics": self._topics}

    def wait_ready(self, stopped: Callable[[], bool]) -> None:
        """Wait until the process listens to velocities, or for :data:`READY` s: whoever begins later makes the arm stop
        for a moment.
        """
        end = time.monotonic() + READY
        while not (self._link.report.at or self._link.gone or stopped()) and time.monotonic() < end:
            time.sleep(WATCH)

    def look(self, view: View) -> None:
        """Look whether an episode has begun or ended."""
        self._episodes.look(view, time.monotonic())

    def act(self) -> None:
        """An action was begun."""
        self._episodes.act()

    def wait(self, now: float) -> float:
        """Seconds for which no image must be looked at yet, at most; 0 if there is nothing to wait for."""
        state, current = self._state, self._episodes.current
        if state is None or current is None or not state.waiting:
            return 0.0
        report, left = self._link.report, current.began_at + PATIENCE - now
        if report.recording == current.number:
            state.waiting, state.from_start = False, self._look_anew(now)
            self._waited = f"{1e3 * (now - current.began_at):.0f}"
        elif report.missed == current.number or left <= 0.0 or self._link.gone:
            state.waiting = False
            self._node.get_logger().warning(f"goes on without a recording from the start: {self._trouble(now)}")
        return left if state.waiting else 0.0

    def news(self) -> None:
        """Pass on what the process has to say."""
        for line in self._link.lines():
            self._node.get_logger().info(f"recording: {line}")

    def part(self) -> Part:
        """For ``/diagnostics``."""
        now = time.monotonic()
        report, trouble = self._link.report, self._link.trouble(now)
        values = {
            "record_to": str(self.folder),
            "episode": report.name,
            "spare recorder": report.spare or "none",
            "free GiB": "unknown" if report.free < 0 else f"{report.free / GIB:.1f}",
            "bags": str(report.bags),
            "newest bag": report.last,
            "waited_ms for the recorder": self._waited,
            "episodes not recorded from their start": str(self._missed),
        }
        if trouble:
            values["remedy"] = "Make room in record_to, or read the node's log; the arm goes on without."
            return Part("WARN", f"not recording: {trouble}", values)
        return Part("OK", f"recording {report.name}" if report.name else "waits for an episode", values)

    def close(self) -> None:
        """No more; the bags are closed by their own process."""
        self._link.close()

    def _trouble(self, now: float) -> str:
        return self._link.trouble(now) or f"the spare recorder is {self._link.report.spare or 'not there'} yet"

    def _on_begin(self, episode: Episode, now: float) -> None:
        identity = self._about.get("identity", {})
        self._state = _State(episode_name(time.time(), episode.instruction))
        parameters = {name: parameter.value for name, parameter in self._node.get_parameters_by_prefix("").items()}
        told = {
            "number": episode.number,
            "at": now,
            "name": self._state.name,
            "instruction": episode.instruction,
            "given_by": "instruction" if episode.goal is None else "goal",
            "unnorm_key": identity.get("unnorm_key", ""),
            "model_digest": identity.get("model_digest", ""),
            "about": json.dumps({**self._about, "parameters": _plain(parameters)}, default=str),
        }
        if not self._link.send({"begin": told}):
            self._state.waiting = False

    def _on_end(self, episode: Episode, end: End, now: float) -> None:
        state, self._state = self._state, None
        self._missed += not (state is not None and state.from_start)
        told = {
            "number": episode.number,
            "outcome": int(end.outcome),
            "succeeded": end.succeeded,
            "fault": end.fault,
            "message": end.message,
            "from_start": bool(state is not None and state.from_start),
            "actions": episode.actions,
            "elapsed": now - episode.began_at if episode.goal is None else episode.goal.elapsed(now),
        }
        self._link.send({"end": told})


def _topics(node: Any, camera: str) -> dict[str, str]:
    """What is recorded: {what it is to the node: full name}."""
    name = node.resolve_topic_name
    return {
        "image": camera,
        "camera_info": f"{name('image').rpartition('/')[0]}/camera_info",
        "delta_twist_cmds": name("~/delta_twist_cmds"),  # copies; see .record_node
        "gripper_command": name("gripper_command"),
        "joint_states": name("joint_states"),
        "action": name("~/action"),
        "decode_stats": name("~/decode_stats"),
        "feedback": name(f"{EXECUTE}/_action/feedback"),
        "status": name(f"{EXECUTE}/_action/status"),
        "transition_event": name("~/transition_event"),
        "episode_record": name(f"~/{TOPIC}"),
        "diagnostics": "/diagnostics",
        "parameter_events": "/parameter_events",
        "rosout": "/rosout",
        "tf": "/tf",
        "tf_static": "/tf_static",
    }


def _setup(node: Any, folder: Path, keep_free: float, topics: dict[str, str], gripper: bool) -> Setup:
    def named(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(topics[name] for name in names)

    there = ("image", "delta_twist_cmds", "action", "decode_stats", "episode_record", "diagnostics")
    return Setup(
        root=str(folder),
        keep_free=int(keep_free * GIB),
        topics=tuple(topics.values()),
        required=named((*there, "gripper_command") if gripper else there),
        unconfirmed=named(("image", "camera_info", "gripper_command", "joint_states", "feedback", "status")),
        images=topics["image"],
        record=topics["episode_record"],
        velocities=node.resolve_topic_name("delta_twist_cmds"),
        copies=topics["delta_twist_cmds"],
        node=f"rosbag2_recorder_{node.get_name()}",  # as tools are called: .audience
        namespace=node.get_namespace(),
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values of parameters as JSON has them."""
    found = {}
    for name, value in values.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        value = list(value) if isinstance(value, list | tuple) else value
        text = json.dumps(value, default=str)
        found[name] = value if len(text) <= SETTINGS else f"{text[:SETTINGS]}..."
    return found


def harmless(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of :class:`Records` whose exceptions end the recording and nothing else: they are no reason to stop."""

    @functools.wraps(method)
    def wrapper(self: Records, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001
            log_traceback(self._node, error)
            self.close()
            self._failed = f"{type(error).__name__}: {error}"
            return None

    return wrapper


class Records:
    """What the act node has of all this: nothing happens where ``record_to`` is empty, and nothing here raises but
    :meth:`open`.

    ``names``: of all parts of diagnostics that there may be, this one included where it is wanted.
    """

    def __init__(
        self,
        node: Any,
        cycle: Callable[[], Cycle | None],
        goal: Callable[[], Goal | None],
        go_on: Callable[[], None],
    ) -> None:
        """``cycle``: the one of now. ``goal``: the one under way. ``go_on`` is called when there may be nothing to wait
        for any more.
        """
        self._node, self._cycle, self._goal, self._go_on = node, cycle, goal, go_on
        self._recording: Recording | None = None
        self._heard = node.create_guard_condition(self._on_news)
        self._failed = ""  # why there is no recording any more
        wanted = bool(node.get_parameter("record_to").value)
        self.names = (*diagnostics.PARTS, "recording") if wanted else diagnostics.PARTS

    def open(self, fixed: Fixed, camera: str) -> None:
        """While the node configures; see :class:`Recording`. Raises ``ValueError``."""
        self._failed = ""
        if fixed.record_to:
            self._recording = Recording(self._node, fixed, camera, self._look_anew, self._wake)

    @harmless
    def describe(self, description: dict[str, str], identity: dict[str, Any], stopped: Callable[[], bool]) -> None:
        """What has been loaded; returns when everything is ready, or it takes too long, or ``stopped()``."""
        if self._recording is not None:
            self._recording.describe(description, identity)
            self._recording.wait_ready(stopped)

    @harmless
    def look(self, active: bool = True) -> None:
        """See whether an episode has begun or ended."""
        if self._recording is None:
            return
        cycle = self._cycle() if active else None
        if cycle is None:
            self._recording.look(View(None))
        else:
            self._recording.look(View(cycle.run, cycle.instruction, cycle.fault, cycle.hold, self._goal()))

    @harmless
    def act(self) -> None:
        """An action was begun."""
        if self._recording is not None:
            self._recording.act()

    def wait(self, now: float) -> float:
        """Seconds for which no image must be looked at yet, at most; 0 if there is nothing to wait for."""
        return self._wait(now) or 0.0

    def parts(self) -> dict[str, Part]:
        """For ``/diagnostics``."""
        if self._failed:
            values = {"remedy": "Read the node's log; deactivate, cleanup and configure begin anew."}
            return {"recording": Part("WARN", f"not recording: {self._failed}", values)}
        part = self._part()
        return {} if part is None else {"recording": part}

    def close(self) -> None:
        """With the configuration."""
        if self._recording is not None:
            self._recording.close()
        self._recording = None

    @harmless
    def _wait(self, now: float) -> float:
        return 0.0 if self._recording is None else self._recording.wait(now)

    @harmless
    def _part(self) -> Part | None:
        return None if self._recording is None else self._recording.part()

    def _look_anew(self, now: float) -> bool:
        cycle = self._cycle()
        return cycle is not None and cycle.look_anew(now)

    def _wake(self) -> None:
        """Called by another thread."""
        if self._recording is not None:
            self._heard.trigger()

    @harmless
    def _on_news(self) -> None:
        if self._recording is not None:
            self._recording.news()
            self._go_on()
