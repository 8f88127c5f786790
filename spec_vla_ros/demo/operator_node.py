"""The operator of the demonstration as a node: gives instructions, asks for episodes, listens to everything.

It does what a person with ``ros2 topic pub``, ``ros2 param set`` and ``ros2 bag record`` would do, in one process. It
runs in the command line's own process and spins only while it waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

RUNTIME = ensure_rclpy()  # before the first import of rclpy or of a message package

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from spec_vla_ros.decoding.presets import CUSTOM
from spec_vla_ros.msg import DecodeStats, Episode
from spec_vla_ros.recordings.recording import Recording, Topic
from spec_vla_ros.ros.children import DemoError

from .summary import EpisodeRecord, Setting

START = 120.0  # s for both nodes to start, the model included
ANSWER = 10.0  # s for a node to answer
MARGIN = 20.0  # s of real time that an episode may take beyond its limit in simulated time
ERROR = b"\x02"  # diagnostic_msgs/DiagnosticStatus.ERROR


class Operator(Node):
    """Runs episodes; ``watch`` is called while waiting and raises when there is nothing left to wait for."""

    def __init__(self, recording: Recording, watch: Callable[[], None] = lambda: None) -> None:
        super().__init__("operator")
        self._recording, self._watch = recording, watch
        self._received: dict[str, int] = dict.fromkeys((topic.name for topic in recording.topics), 0)
        self._episode: Episode | None = None
        self._fault = ""
        self._passes: list[int] = []
        self._number = 0
        self._instructions = self.create_publisher(String, "instruction", 10)
        self._requests = self.create_publisher(Episode, "episode_request", 10)
        self._client = self.create_client(SetParameters, "act/set_parameters")  # Humble has no parameter client
        self._subscriptions_ = [
            self.create_subscription(Episode, "episode", self._on_episode, 10),
            self.create_subscription(DecodeStats, "act/decode_stats", self._on_stats, 10),
            self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10),
            *(self._record(topic) for topic in recording.topics),
        ]
        self._spinner = SingleThreadedExecutor()
        self._spinner.add_node(self)

    def close(self) -> None:
        """Leave the graph."""
        self._spinner.shutdown()
        self.destroy_node()

    # -- listening ---------------------------------------------------------------------------------------------------

    def _record(self, topic: Topic) -> Any:
        package, _, name = topic.type.split("/")
        kind = getattr(import_module(f"{package}.msg"), name)
        reliability = ReliabilityPolicy.BEST_EFFORT if topic.best_effort else ReliabilityPolicy.RELIABLE
        qos = QoSProfile(depth=5 if topic.best_effort else 100, reliability=reliability)
        return self.create_subscription(kind, topic.name, partial(self._on_raw, topic), qos, raw=True)

    def _on_raw(self, topic: Topic, raw: bytes) -> None:
        self._received[topic.name] += 1
        self._recording.add(topic, time.time_ns(), raw)

    def _on_episode(self, message: Episode) -> None:
        self._episode = message

    def _on_stats(self, message: DecodeStats) -> None:
        self._passes.append(message.verifier_passes)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "act: control":
                self._fault = status.message if status.level == ERROR else ""
                remedy = next((pair.value for pair in status.values if pair.key == "remedy"), "")
                if self._fault and remedy:
                    self._fault += f" {remedy}"

    # -- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Spin until ``done()``; raises :class:`DemoError` naming ``what`` after ``timeout`` s, or what is broken."""
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                raise DemoError(f"waited {timeout:.0f} s for {what}")
            self._spinner.spin_once(timeout_sec=0.05)
            self._watch()
            if self._fault:
                raise DemoError(f"the act node stopped: {self._fault}")

    def wait_for_nodes(self) -> None:
        """Until camera, arm and act node are up, connected with this node, and the act node is active."""
        received = self._received
        self.wait(lambda: received["/image"] and received["/episode"], START, "the simulated arm")
        self.wait(lambda: received["/delta_twist_cmds"] > 0, START, "the act node to become active")
        self.wait(
            lambda: self._instructions.get_subscription_count() and self._requests.get_subscription_count(),
            ANSWER,
            "both nodes to listen",
        )
        self.wait(self._client.service_is_ready, ANSWER, "the act node's parameter services")

    # -- acting ------------------------------------------------------------------------------------------------------

    def apply(self, setting: Setting) -> None:
        """Set the act node's decoder while it runs."""
        values: dict[str, Any] = {"preset": setting.preset}  # first: unless it is "custom", it decides the rest
        if setting.preset == CUSTOM:
            values["decoder"] = setting.decoder
        if setting.preset == CUSTOM and setting.decoder != "autoregressive":
            values |= {
                "drafters": list(setting.drafters),
                "draft_width": setting.draft_width,
                "emit": setting.emit,
            }
        if setting.decoder != "autoregressive":
            values |= {"acceptance_radius": setting.acceptance_radius, "draft_depth": setting.draft_depth}
        wanted = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        future = self._client.call_async(SetParameters.Request(parameters=wanted))
        self.wait(future.done, ANSWER, "the act node to take its parameters")
        refused = [result.reason for result in future.result().results if not result.successful]
        if refused:
            raise DemoError(f"the act node refused its parameters: {'; '.join(refused)}")

    def run_episode(
        self, row: int, index: int, instruction: str, seed: int, time_limit: float = 0.0
    ) -> tuple[EpisodeRecord, Sequence[int]]:
        """Reset the arm to ``seed``, let the act node follow ``instruction`` to the end.

        ``time_limit``: s of simulated time, 0 = the task's own. Returns the episode and the verifier passes of
        each of its actions.
        """
        self._number += 1
        number = self._number
        self._requests.publish(Episode(id=number, seed=seed, instruction=instruction, time_limit=time_limit))
        self.wait(lambda: self._episode is not None and self._episode.id == number, ANSWER, "the arm to reset")
        if self._episode.detail:
            raise DemoError(f"the arm refused the episode: {self._episode.detail}")
        began, limit = time.time_ns(), self._episode.time_limit
        self._passes = []
        # The arm publishes the new scene's first image before it says RUNNING, so the act node has it by now.
        self._instructions.publish(String(data=instruction))
        over = (Episode.SUCCESS, Episode.FAILURE)
        try:
            self.wait(lambda: self._episode.state in over, limit + MARGIN, f"the end of episode {number}")
        finally:
            self._instructions.publish(String(data=""))  # hold; it also makes the act node forget its history
        result = self._episode
        success = result.state == Episode.SUCCESS
        record = EpisodeRecord(row, index, seed, instruction, success, result.elapsed, began, time.time_ns())
        return record, tuple(self._passes)


@contextmanager
def operator(recording: Recording, watch: Callable[[], None]) -> Iterator[Operator]:
    """The node with rclpy around it. Ctrl-C stays Python's: it raises KeyboardInterrupt wherever we are."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Operator(recording, watch)
        try:
            yield node
        finally:
            node.close()
    finally:
        rclpy.try_shutdown()
