"""The faults of a campaign: how each is made, from outside, and what the node has to answer. No ROS until injected.

An answer is the name of a fault in diagnostics (one of :data:`HOLDS` is not latched), a state of the node, or one of
:data:`GOES_ON`, :data:`DRY_RUN` and :data:`ENDS`. ``within`` is the time in s from the injection after which nothing
may move any more: what the node's own parameters allow, plus :data:`SLACK` for a machine that is shared.
"""

from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

STEP_DT, THINKING = 0.2, 0.05  # s of a step and of an inference
IMAGE_TIMEOUT, INFERENCE_TIMEOUT, FIRST_IMAGE_TIMEOUT = 0.4, 0.5, 2.0  # s
MAX_LINEAR, MAX_ANGULAR = 0.04, 0.4  # m/s, rad/s; the script asks for 0.05 and 0.5, so that the limit is at work
PUBLISH_RATE = 100.0  # Hz
FRAME = "base_link"
SLACK = 0.25  # s; a tick, an image, the way to the node, and a pause of a machine with two cores
LOOK = 0.2  # s between two looks of the node at the graph
FRAME_TIME = 1 / 30  # s between two images

GOES_ON, DRY_RUN, ENDS = "goes on", "dry run", "ends"
INACTIVE, UNCONFIGURED, FINALIZED = "inactive", "unconfigured", "finalized"
STATES = (INACTIVE, UNCONFIGURED, FINALIZED)
HOLDS = ("INSTRUCTION_INVALID", "NO_INSTRUCTION")
RELOAD = ("WORKER_HUNG",)  # faults whose remedy asks for cleanup and configure

# Of the act node, on top of config/sim.yaml.
NODE = {
    "policy": "scripted", "script": "rehearse", "script_delay": THINKING, "step_dt": STEP_DT, "autostart": "false",
    "dry_run": "false", "instruction": "go on", "action_scale": 1.0, "max_linear_speed": MAX_LINEAR,
    "max_angular_speed": MAX_ANGULAR, "image_timeout": IMAGE_TIMEOUT, "first_image_timeout": FIRST_IMAGE_TIMEOUT,
    "inference_timeout": INFERENCE_TIMEOUT, "frozen_image_steps": 3, "publish_rate": PUBLISH_RATE,
    "command_frame": FRAME,
}  # fmt: skip

Inject = Callable[[Any, random.Random], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault. ``inject(world, rng)`` makes it; the world's ``repair`` takes it back.

    ``lasts``: s for which the cause stays, drawn between the two; a fault that is latched stays at least until it is
    shown. ``sim_time``: needs a node with ``use_sim_time``. ``tempt``: activation while the cause is there is refused.
    """

    name: str
    inject: Inject
    answers: tuple[str, ...]
    within: float | None = None
    lasts: tuple[float, float] = (0.0, 0.3)
    sim_time: bool = False
    tempt: bool = False

    @property
    def patience(self) -> float:
        """Longest time in s from the injection to the answer."""
        return (self.within or 0.0) + 2 * INFERENCE_TIMEOUT + 1.0


def _spoil(change: Callable[[Any], None]) -> Inject:
    """Every image is changed by ``change`` before it is published."""
    return lambda world, rng: world.camera.spoil_with(change)


def _fields(**values: Any) -> Inject:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return _spoil(change)


def _truncate(message: Any) -> None:
    message.data = message.data[: len(message.data) // 3]


def _camera(**settings: Any) -> Inject:
    def inject(world: Any, rng: random.Random) -> None:
        del rng
        for name, value in settings.items():
            setattr(world.camera, name, value)

    return inject


def _say(text: str) -> Inject:
    return lambda world, rng: world.say(text)


def _text(payload: bytes) -> Inject:
    """A std_msgs/String of these bytes as they are. (What is no CDR at all does not leave a DDS writer.)"""
    raw = b"\x00\x01\x00\x00" + struct.pack("<I", len(payload) + 1) + payload + b"\0"
    return lambda world, rng: world.say_raw(raw)


def _flood(world: Any, rng: random.Random) -> None:
    for i in range(200):
        world.later(i * 0.5 / 200, partial(world.say, f"pick up block {rng.randrange(10**6)} {i}"))


def _storm(world: Any, rng: random.Random) -> None:
    """Hundreds of calls within a second, a third of them invalid; in the end everything is as it was."""
    valid = (
        lambda: ("max_linear_speed", rng.choice((0.0, 0.01, 0.5, rng.uniform(0.0, 0.5)))),
        lambda: ("max_angular_speed", rng.uniform(0.0, 2.0)),
        lambda: ("action_scale", rng.uniform(0.0, 1.0)),
        lambda: ("image_timeout", rng.uniform(IMAGE_TIMEOUT, 1.0)),
        lambda: ("acceptance_radius", rng.randrange(21)),
        lambda: ("gripper_invert", rng.random() < 0.5),
    )
    invalid = (
        lambda: ("max_linear_speed", rng.choice((-0.1, 0.51, 1e9, float("nan"), float("inf"), 1, "fast"))),
        lambda: ("max_angular_speed", rng.choice((-1.0, 2.5, float("-inf"), True))),
        lambda: ("image_timeout", rng.choice((0.0, -1.0, 1e6, float("nan")))),
        lambda: ("step_dt", 0.02),
        lambda: ("publish_rate", 500.0),
        lambda: ("command_frame", "camera"),
        lambda: ("policy", "openvla"),
        lambda: ("instruction", rng.choice(("</s>", "x" * 401))),
        lambda: ("no_such_parameter", 1.0),
    )
    count = rng.randrange(150, 350)
    for i in range(count):
        good = rng.random() < 0.66
        world.later(i / count, partial(world.set_parameter, *rng.choice(valid if good else invalid)(), good))
    for name, default in (
        ("action_scale", 1.0), ("max_linear_speed", MAX_LINEAR), ("max_angular_speed", MAX_ANGULAR),
        ("image_timeout", IMAGE_TIMEOUT), ("gripper_invert", False), ("acceptance_radius", 9),
    ):  # fmt: skip
        world.later(1.02, partial(world.set_parameter, name, default, True))


def _refused(*labels: str) -> Inject:
    """Transitions that an active node must refuse."""

    def inject(world: Any, rng: random.Random) -> None:
        label = rng.choice(labels)
        if world.transition(label):
            world.complain(f"{label} was not refused by an active node")

    return inject


def _transitions(world: Any, rng: random.Random) -> None:
    for _ in range(rng.randrange(3, 9)):
        world.transition(rng.choice(("configure", "cleanup", "activate", "deactivate", "activate", "configure")))
        world.spin(rng.choice((0.0, 0.0, 0.1, 0.3)))


def _signals(*names: str) -> Inject:
    def inject(world: Any, rng: random.Random) -> None:
        for name in names:
            world.send_signal(getattr(signal, name))
            world.spin(rng.uniform(0.0, 0.02))

    return inject


def _suspend(world: Any, rng: random.Random) -> None:
    world.send_signal(signal.SIGSTOP)
    world.later(rng.uniform(0.05, 1.2), partial(world.send_signal, signal.SIGCONT))


NEXT_IMAGE = FRAME_TIME + SLACK
NO_IMAGE_ANY_MORE = IMAGE_TIMEOUT + SLACK
REST_OF_STEP = STEP_DT + SLACK  # an action that the arm has begun is brought to its end
NESTED = "<" * 250_000 + "a>" * 250_000  # taking one control string out leaves another

KINDS: tuple[Kind, ...] = (
    # The camera.
    Kind("camera stops", _camera(on=False), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("camera pauses briefly", _camera(on=False), (GOES_ON,), lasts=(0.05, IMAGE_TIMEOUT / 2)),
    Kind("camera vanishes", lambda world, rng: world.camera.vanish(), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("camera frozen, fresh stamps", _camera(frozen=True), ("IMAGE_FROZEN",), 5 * (STEP_DT + 0.15) + SLACK),
    Kind("camera repeats one message", _camera(repeating=True), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("stamps 5 s old", _camera(shift=-5.0), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("stamps 2 s ahead", _camera(shift=2.0), ("IMAGE_FROM_FUTURE",), NEXT_IMAGE),
    Kind("unknown encoding", _fields(encoding="h264"), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("depth encoding", _fields(encoding="16UC1"), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("truncated image", _spoil(_truncate), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("image of no size", _fields(width=0, height=0), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("image claims 2^31 rows", _fields(height=2**31), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("camera at 200 Hz", lambda world, rng: world.camera.start(200.0), (GOES_ON,), lasts=(0.3, 1.0)),
    Kind("camera changes to 640 x 480", _camera(size=(480, 640)), (GOES_ON,), lasts=(0.3, 1.0)),
    # The operator's words.
    Kind("200 instructions in 0.5 s", _flood, ("INSTRUCTION_FLOOD",), 0.5 + SLACK),
    Kind("1 MB instruction", _say("pick " * 200_000), ("INSTRUCTION_INVALID",), SLACK),
    Kind("0.75 MB of nested control strings", _say(NESTED), ("INSTRUCTION_INVALID",), SLACK),
    Kind("control strings only", _say("</s><s> <|im_end|> [INST]\n\x07"), ("INSTRUCTION_INVALID",), SLACK),
    Kind("blank instruction", _say(" \t\n"), ("NO_INSTRUCTION",), SLACK),
    Kind("instruction not UTF-8", _text(b"\xff\xfe\x80\xc3"), ("INSTRUCTION_INVALID", GOES_ON), lasts=(0.2, 0.4)),
    # The policy.
    Kind("policy raises", _say("rehearse raise"), ("WORKER_EXCEPTION",), REST_OF_STEP),
    Kind("policy out of memory", _say("rehearse out of memory"), ("OUT_OF_MEMORY",), REST_OF_STEP),
    Kind("policy says NaN", _say("rehearse nan"), ("NON_FINITE",), REST_OF_STEP),
    Kind("policy says infinity", _say("rehearse infinity"), ("NON_FINITE",), REST_OF_STEP),
    Kind("policy says no action token", _say("rehearse token"), ("NON_ACTION_TOKEN",), REST_OF_STEP),
    Kind("policy hangs", _say("rehearse hang"), ("WORKER_HUNG",), REST_OF_STEP),
    # The operator's tools.
    Kind("parameter storm", _storm, (GOES_ON,), lasts=(1.3, 1.5)),
    Kind("dry run", lambda world, rng: world.set_dry_run(True), (DRY_RUN,), SLACK),
    Kind("deactivate", lambda world, rng: world.transition("deactivate"), (INACTIVE,), SLACK),
    Kind("shutdown", lambda world, rng: world.transition("shutdown"), (FINALIZED,), SLACK),
    Kind("transition that is not allowed", _refused("cleanup", "configure", "activate"), (GOES_ON,), lasts=(0.1, 0.3)),
    Kind("transitions at random", _transitions, (GOES_ON, INACTIVE, UNCONFIGURED), lasts=(0.3, 0.5)),
    # Who else is there.
    Kind(
        "second publisher", lambda world, rng: world.rival(rng), ("SECOND_PUBLISHER",), LOOK + 0.1 + SLACK, tempt=True
    ),
    Kind("arm vanishes", lambda world, rng: world.leave_arm(), ("ARM_GONE",), LOOK + 0.1 + SLACK),
    # The process.
    Kind("SIGINT", _signals("SIGINT"), (ENDS,)),
    Kind("SIGTERM", _signals("SIGTERM"), (ENDS,)),
    Kind("SIGINT twice", _signals("SIGINT", "SIGINT"), (ENDS,)),
    Kind("SIGKILL", _signals("SIGKILL"), (ENDS,)),
    Kind("process suspended", _suspend, ("IMAGE_STALE", "WORKER_HUNG", "CLOCK_STOPPED", GOES_ON), lasts=(1.3, 1.5)),
    # Simulated time.
    Kind("clock stops", _camera(clock_stands=True), ("CLOCK_STOPPED",), NO_IMAGE_ANY_MORE, sim_time=True),
    Kind(
        "clock jumps back", lambda world, rng: world.camera.jump(-rng.uniform(0.5, 100.0)),
        ("CLOCK_JUMPED", "IMAGE_FROM_FUTURE"), SLACK, sim_time=True,
    ),
    Kind(
        "clock jumps ahead", lambda world, rng: world.camera.jump(rng.uniform(0.5, 100.0)),
        (GOES_ON, "IMAGE_STALE", "IMAGE_FROM_FUTURE"), lasts=(0.5, 0.7), sim_time=True,
    ),
)  # fmt: skip

BLOCK, SIMULATED = 25, 4  # of so many faults, the first few happen to a node with use_sim_time


@dataclass(frozen=True)
class Planned:
    """One fault of the plan; ``seed`` decides its moment, its duration and what it looks like in detail."""

    number: int
    kind: Kind
    sim_time: bool
    seed: int


def plan(count: int, seed: int, kinds: tuple[Kind, ...] = KINDS) -> list[Planned]:
    """``count`` faults at random, the same for the same ``seed``.

    Drawn like cards: no kind comes again before all of its deck have come. Faults with simulated time stand together
    because they need another start of the node; every other one of them is a fault of the clock.
    """
    rng = random.Random(seed)  # noqa: S311 - a plan, no secret
    anything = _deck([kind for kind in kinds if not kind.sim_time], rng)
    clocks = _deck([kind for kind in kinds if kind.sim_time], rng)
    planned = []
    for number in range(count):
        sim_time = number % BLOCK < SIMULATED and any(kind.sim_time for kind in kinds)
        kind = next(clocks if sim_time and number % 2 == 0 else anything, None) or next(clocks)
        planned.append(Planned(number, kind, sim_time or kind.sim_time, rng.getrandbits(32)))
    return planned


def _deck(kinds: list[Kind], rng: random.Random) -> Iterator[Kind]:
    while kinds:
        yield from rng.sample(kinds, len(kinds))
