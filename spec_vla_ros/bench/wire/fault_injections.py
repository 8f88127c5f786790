"""How each fault of a campaign is made, from outside. No ROS until injected.

An injection is a function of the world (:class:`.fault_world_node.FaultWorld`) and of a random generator that decides
the details. The world's ``repair`` takes it back.
"""

from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from spec_vla_ros.policy_types import DecodeSettings

from .fault_events import ACT, GROUP, SAFETY
from .fault_settings import IMAGE_TIMEOUT, MAX_ANGULAR, MAX_LINEAR

Inject = Callable[[Any, random.Random], None]


def spoil(change: Callable[[Any], None]) -> Inject:
    """Every image is changed by ``change`` before it is published."""
    return lambda world, rng: world.camera.spoil_with(change)


def fields(**values: Any) -> Inject:
    """Every image has these values."""

    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return spoil(change)


def truncate(message: Any) -> None:
    """A third of a picture."""
    message.data = message.data[: len(message.data) // 3]


def camera(**settings: Any) -> Inject:
    """The camera gets these defects."""

    def inject(world: Any, rng: random.Random) -> None:
        del rng
        for name, value in settings.items():
            setattr(world.camera, name, value)

    return inject


def say(text: str) -> Inject:
    """A good instruction: what is wrong with it is the answer of the policy."""
    return lambda world, rng: world.say(text)


def babble(text: str) -> Inject:
    """An instruction that is none."""
    return lambda world, rng: world.babble(text)


def text(payload: bytes) -> Inject:
    """A std_msgs/String of these bytes as they are. (What is no CDR at all does not leave a DDS writer.)"""
    raw = b"\x00\x01\x00\x00" + struct.pack("<I", len(payload) + 1) + payload + b"\0"
    return lambda world, rng: world.say_raw(raw)


def flood(world: Any, rng: random.Random) -> None:
    """Instructions faster than anybody speaks."""
    for i in range(200):
        world.later(i * 0.5 / 200, partial(world.say, f"pick up block {rng.randrange(10**6)} {i}"))


def storm(world: Any, rng: random.Random) -> None:
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
        ("image_timeout", IMAGE_TIMEOUT), ("gripper_invert", False),
        ("acceptance_radius", DecodeSettings.acceptance_radius),
    ):  # fmt: skip
        world.later(1.02, partial(world.set_parameter, name, default, True), always=True)


def refused(*labels: str) -> Inject:
    """Transitions that an active node must refuse."""

    def inject(world: Any, rng: random.Random) -> None:
        label = rng.choice(labels)
        if world.transition(label):
            world.complain(f"{label} was not refused by an active node")

    return inject


def transitions(world: Any, rng: random.Random) -> None:
    """Whatever an impatient operator asks for."""
    for _ in range(rng.randrange(3, 9)):
        world.transition(rng.choice(("configure", "cleanup", "activate", "deactivate", "activate", "configure")))
        world.spin(rng.choice((0.0, 0.0, 0.1, 0.3)))


def signals(*names: str, whom: str = ACT) -> Inject:
    """Signals, shortly after each other."""

    def inject(world: Any, rng: random.Random) -> None:
        for name in names:
            world.send_signal(getattr(signal, name), whom)
            world.spin(rng.uniform(0.0, 0.02))

    return inject


def suspend(whom: str, shortest: float, longest: float) -> Inject:
    """SIGSTOP, and SIGCONT after a time between the two, s."""

    def inject(world: Any, rng: random.Random) -> None:
        world.send_signal(signal.SIGSTOP, whom)
        world.later(rng.uniform(shortest, longest), partial(world.send_signal, signal.SIGCONT, whom), always=True)

    return inject


def end_group(world: Any, rng: random.Random) -> None:
    """As Ctrl-C in a terminal, or a supervisor that ends a unit: both processes are told at the same moment."""
    world.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM)), GROUP)


def end_safety(world: Any, rng: random.Random) -> None:
    """The safety process is told to end, alone."""
    world.send_signal(rng.choice((signal.SIGTERM, signal.SIGINT)), SAFETY)


def block_log(world: Any, rng: random.Random) -> None:
    """Nobody reads the node's log any more, and there is something to be said."""
    world.block_log()
    world.say(f"go on with block {rng.randrange(10**6)}")


# -- requests ----------------------------------------------------------------------------------------------------------

NAMES = ("dry_run", "instruction", "no_such_parameter", "x" * 1000)
ASKING = ("get_parameters", "get_parameter_types", "describe_parameters")
SETTING = ("set_parameters", "set_parameters_atomically")
BOOL, INTEGER, STRING, DOUBLES, UNKNOWN_TYPE = 1, 2, 4, 8, 77
ALL = (
    *ASKING, *SETTING, "list_parameters", "change_state", "get_state", "get_available_states",
    "get_available_transitions", "get_transition_graph",
)  # fmt: skip


def names(count: int) -> Inject:
    """One request about ``count`` parameters."""

    def inject(world: Any, rng: random.Random) -> None:
        name = rng.choice(NAMES[: 4 if count <= 20_000 else 3])
        world.helpers.order(do="names", service=rng.choice(ASKING), count=count, name=name)

    return inject


def prefixes(world: Any, rng: random.Random) -> None:
    """A list of what begins with many prefixes."""
    world.helpers.order(do="prefixes", count=rng.choice((2_000, 20_000)), depth=rng.choice((0, 1, 10)))


def huge_values(world: Any, rng: random.Random) -> None:
    """A value of a megabyte or more, or a thousand good ones at once."""
    order = rng.choice((
        {"name": "workspace_min", "kind": DOUBLES, "size": 500_000, "count": 1},
        {"name": "instruction", "kind": STRING, "size": 2_000_000, "count": 1},
        {"name": "no_such_parameter", "kind": DOUBLES, "size": 10, "count": 5_000},
        {"name": "x" * 100_000, "kind": BOOL, "size": 0, "count": 10},
    ))  # fmt: skip
    world.helpers.order(do="values", service=rng.choice(SETTING), **order)


def wrong_values(*types: int) -> Inject:
    """A value of a type that the parameter cannot have, or nothing can."""

    def inject(world: Any, rng: random.Random) -> None:
        name = rng.choice(("max_linear_speed", "image_timeout", "workspace_min", "no_such_parameter"))
        order = {"name": name, "kind": rng.choice(types), "size": 3, "count": rng.choice((1, 3))}
        world.helpers.order(do="values", service=rng.choice(SETTING), **order)

    return inject


def label(world: Any, rng: random.Random) -> None:
    """A transition that does not exist, with a name that nobody has."""
    world.helpers.order(do="label", size=rng.choice((0, 1_000, 100_000, 2_000_000)), number=rng.choice((0, 99, 255)))


def garbage(world: Any, rng: random.Random) -> None:
    """Requests whose strings are random bytes. (What is no CDR at all does not leave a DDS writer.)"""
    size, count = rng.choice(((1, 20), (60, 20), (1_000, 20), (200_000, 3)))
    seed = rng.getrandbits(32)
    world.helpers.order(do="garbage", service=rng.choice(ALL), size=size, count=count, seed=seed)


def small_requests(world: Any, rng: random.Random) -> None:
    """Hundreds of requests per second, from several clients."""
    rate, seed = rng.uniform(200.0, 500.0), rng.getrandbits(32)
    world.helpers.order(wait=False, do="storm", seconds=1.0, rate=rate, clients=rng.randrange(2, 7), seed=seed)


def stopped_client(world: Any, rng: random.Random) -> None:
    """A client that asks and is then suspended, so that it takes no reply."""
    small_requests(world, rng)
    world.later(0.3, world.helpers.suspend_caller)


def deaf_client(world: Any, rng: random.Random) -> None:
    """A client that cannot hear what it asks for."""
    world.helpers.order(do="deaf", count=rng.choice((1, 5, 50)))
