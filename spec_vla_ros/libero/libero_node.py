"""LIBERO as a ROS node, so that the act node drives it over topics as it drives an arm: docs/libero.md.

``image`` is what the model was trained on, already turned by 180 degrees, through a JPEG and at the model's size: the
act node's ordinary path (resize, which then does nothing, and ``centre_crop``) gives the pixels of the evaluation.

The world stands still until a motion of one ``step_dt`` has arrived, carries it out as one action, and then shows its
picture. ``OSC_POSE`` sets its goal from the measured pose, so a world that ran on while the policy thinks would brake
between two actions and be another experiment than the evaluation. Meanwhile the last picture is published with new
stamps, at ``image_rate`` on the steady clock: it is what a camera would see. The simulator has a thread of its own,
because its renderer is bound to one thread and a reset takes seconds in which the act node's dead-man wants images.
"""

from __future__ import annotations

import array
import os
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.embedded_ros.doorway import ensure_rclpy

ensure_rclpy()  # before the first import of rclpy or of a message package

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Float64

from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.motion.servo import ServoInput
from spec_vla_ros.msg import Episode
from spec_vla_ros.ros.episode_requests import refuse
from spec_vla_ros.ros.parameters import declare_all, fixed
from spec_vla_ros.ros.process import run

from .episode import World
from .protocol import STEP, SUITES, Suite, model_picture
from .wire import ACTION_SCALE, PATIENCE, LiberoEpisodes, StepWindow, controller_input
from .world import LiberoWorld

POLL, EPISODE_RATE = 0.005, 10.0  # s; Hz
QUIET = 5.0  # s between two warnings of the same kind


class LiberoNode(Node):
    """Camera, servo input and episodes of one suite."""

    def __init__(self, world: World | None = None, **node_arguments: Any) -> None:
        """``world``: instead of LIBERO's own. Raises :class:`LiberoMissingError`."""
        super().__init__("libero", **node_arguments)
        value = _declared(self)
        self._frame, self._size, self._scale = value["base_frame"], value["image_size"], value["action_scale"]
        self._camera_frame = value["camera_frame"]
        suite = SUITES[value["suite"]]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="libero")
        self._folder = tempfile.TemporaryDirectory(prefix="spec_vla_libero_")
        self.servo, self.window = ServoInput(self._frame, PATIENCE), StepWindow(value["step_dt"])
        self._gripper_since: float | None = None  # steady time of a gripper command that no motion has followed yet
        self._work: Future | None = None
        self._resetting: Episode | None = None
        self.late = 0
        try:
            self.episodes, self._picture = self._thread.submit(self._open, world, suite, value).result()
        except BaseException:
            self.close()
            raise
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._states = self.create_publisher(Episode, "episode", 10)
        self._subscriptions_ = (
            self.create_subscription(TwistStamped, "delta_twist_cmds", self._on_twist, 10),
            self.create_subscription(Float64, "gripper_command", self._on_gripper, 10),
            self.create_subscription(Episode, "episode_request", self._on_request, 10),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers_ = (
            self.create_timer(POLL, self._poll, clock=steady),
            self.create_timer(1.0 / value["image_rate"], self._repeat_image, clock=steady),
            self.create_timer(1.0 / EPISODE_RATE, self._publish_episode, clock=steady),
        )
        self.get_logger().info(f"{suite.key}: {len(self.episodes.world.tasks)} tasks, pictures of {self._size} px")

    def close(self) -> None:
        """End the step under way, free the simulator and leave the graph."""
        if hasattr(self, "episodes"):
            self._thread.submit(self.episodes.world.close).result()
        self._thread.shutdown()
        self._folder.cleanup()
        if self.servo.dropped:
            dropped = ", ".join(f"{count} {reason}" for reason, count in self.servo.dropped.items())
            self.get_logger().info(f"dropped twists: {dropped}")
        self.destroy_node()

    def _open(self, world: World | None, suite: Suite, value: dict[str, Any]) -> tuple[LiberoEpisodes, np.ndarray]:
        """In the simulator's thread: the world and its first picture."""
        assets = Path(value["assets"]) if value["assets"] else None
        world = world or LiberoWorld(suite, Path(self._folder.name), assets)
        episodes = LiberoEpisodes(world, suite, value["seed"])
        return episodes, self._prepared(episodes.look())

    def _prepared(self, rendered: np.ndarray) -> np.ndarray:
        return model_picture(rendered, self._size)

    # -- the simulator's thread --------------------------------------------------------------------------------------

    def _step(self, motion: np.ndarray) -> None:
        """Carry out a motion as it was streamed; the picture follows when it is done."""
        self._gripper_since = None
        if self._work is not None:
            self._count_late("a motion arrived during a step or a reset and is dropped")
        elif self.episodes.accepts_motion:
            self._work = self._thread.submit(self._act, self.episodes.action(controller_input(motion, self._scale)))

    def _count_late(self, what: str) -> None:
        """An episode in which this happens is another experiment than the evaluation."""
        self.late += 1
        text = f"{what} ({self.late} late so far): let nothing else run beside, or lengthen step_dt in both nodes"
        self.get_logger().warning(text, throttle_duration_sec=QUIET)

    def _act(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        rendered, changed = self.episodes.act(action)
        return self._prepared(rendered), changed

    def _begin(self, request: Episode) -> tuple[np.ndarray, bool]:
        rendered = self.episodes.begin(request.id, request.seed, request.instruction, request.time_limit)
        return self._prepared(rendered), True

    def _poll(self) -> None:
        """See whether the simulator is done, a sender fell silent, or the gripper alone was told to move."""
        if self._work is not None and self._work.done():
            work, self._work, self._resetting = self._work, None, None
            self._picture, changed = work.result()
            self._publish_image()
            if changed:
                episode = self.episodes
                self._publish_episode()
                self.get_logger().info(f"episode {episode.id}: {episode.state.name} after {episode.steps} steps")
        if (motion := self.window.silent(_seconds(self._now()))) is not None:
            self._step(motion)
        since = self._gripper_since
        if since is not None and not self.window.open and time.monotonic() - since > 2 * self.window.step_dt:
            self._step(np.zeros(6))

    # -- topics ------------------------------------------------------------------------------------------------------

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular, header = message.twist.linear, message.twist.angular, message.header
        twist = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        stamp, now = (t.sec * 10**9 + t.nanosec for t in (header.stamp, self._now()))
        if dropped := self.servo.accept(twist, stamp, header.frame_id, now, time.monotonic()):
            text = (
                f"twist dropped: {dropped} (frame {shortened(header.frame_id)}, {self.servo.dropped[dropped]} so far)"
            )
            self.get_logger().warning(text, throttle_duration_sec=QUIET)
        elif (motion := self.window.hear(twist, stamp * 1e-9)) is not None:
            self._step(motion)

    def _on_gripper(self, message: Float64) -> None:
        if not self.episodes.set_gripper(message.data):
            self.get_logger().warning("gripper command dropped: not finite", throttle_duration_sec=QUIET)
            return
        self._gripper_since = time.monotonic()
        if self._work is not None and self._resetting is None:
            self._count_late("a gripper command arrived after its motion, which was carried out with the one before")

    def _on_request(self, message: Episode) -> None:
        refusal = self.episodes.request(message.instruction, message.time_limit)
        if self._work is not None and not refusal:
            refusal = "the simulator is busy with a step or a reset; ask again"
        if refusal:
            refuse(self, self._states, message, refusal, (self._now(), self._frame))
            return
        self.window.clear()
        self._resetting = message
        self._work = self._thread.submit(self._begin, message)

    def _repeat_image(self) -> None:
        """The world stands still, or is being set up anew behind the last picture.

        Never from the first velocity of a step to the picture after it: a picture of before, stamped after the act
        node's step has ended, would start the next inference.
        """
        if self._resetting is not None or (self._work is None and not self.window.open):
            self._publish_image()

    def _publish_image(self) -> None:
        message = Image(encoding="rgb8", height=self._size, width=self._size, step=3 * self._size)
        message.header.stamp, message.header.frame_id = self._now(), self._camera_frame
        data = array.array("B")
        data.frombytes(self._picture.tobytes())
        message.data = data
        self._images.publish(message)

    def _publish_episode(self) -> None:
        if self._resetting is not None:
            return  # the simulator's thread is writing what would be read here
        episode = self.episodes
        message = Episode(id=episode.id, seed=episode.seed, state=int(episode.state), instruction=episode.instruction)
        message.header.stamp, message.header.frame_id = self._now(), self._frame
        message.time_limit, message.elapsed = float(episode.limit * STEP), float(episode.elapsed)
        self._states.publish(message)

    def _now(self) -> Time:
        return self.get_clock().now().to_msg()


PARAMETERS = (  # all are read once, at the start
    fixed("suite", "spatial", f"One of {', '.join(SUITES)}"),
    fixed("seed", 0, "Of where fixtures stand; the initial state is the request's seed", range=(0, 10**6)),
    fixed("assets", "", "Folder of LIBERO's meshes and textures; empty = looked for"),
    fixed(
        "image_size", 224, "px, square; the model's own size, so that the act node does not resize again",
        range=(16, 640),
    ),
    fixed("image_rate", 20.0, "Hz at which the picture is repeated while the world stands still", range=(1.0, 100.0)),
    fixed(
        "step_dt", STEP, "s that the act node streams one action; the simulator takes 0.05 s whatever it is",
        range=(0.02, 2.0),
    ),
    fixed("action_scale", ACTION_SCALE, "That of the act node, which is divided out", range=(0.001, 1.0)),
    fixed("base_frame", "base_link", "The only frame in which velocities are accepted"),
    fixed("camera_frame", "camera", "frame_id of the images"),
)  # fmt: skip


def _declared(node: Node) -> dict[str, Any]:
    """Declare every parameter; their values by name."""
    declare_all(node, PARAMETERS)
    values = {spec.name: node.get_parameter(spec.name).value for spec in PARAMETERS}
    if values["suite"] not in SUITES:
        raise ParameterException(f"suite must be one of {', '.join(SUITES)}, got {values['suite']!r}", ["suite"])
    return values


def _seconds(stamp: Time) -> float:
    return stamp.sec + 1e-9 * stamp.nanosec


def main(args: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    return run("libero", lambda _: LiberoNode(), LiberoNode.close, args)


if __name__ == "__main__":
    raise SystemExit(main())
