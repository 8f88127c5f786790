"""The faults of a campaign, and what the node has to answer. No ROS until injected.

:mod:`.fault_injections` makes them, :mod:`.fault_settings` has the words for answers. ``within`` is the time in s from
the injection after which nothing may move any more: what the node's own parameters allow, plus :data:`SLACK` for a
machine that is shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import fault_injections as make
from .fault_burdens import why_no_shared_memory
from .fault_events import ACT, GROUP, SAFETY
from .fault_injections import Inject
from .fault_settings import (
    ARM_TIMEOUT,
    DRY_RUN,
    ENDS,
    FINALIZED,
    FRAME_TIME,
    GOES_ON,
    HEARTBEAT_TIMEOUT,
    IMAGE_TIMEOUT,
    INACTIVE,
    INFERENCE_TIMEOUT,
    LOOK,
    POSE_TIMEOUT,
    SETTLING,
    SLACK,
    STEP_DT,
    UNCONFIGURED,
)


@dataclass(frozen=True)
class Kind:
    """One kind of fault. ``inject(world, rng)`` makes it; the world's ``repair`` takes it back.

    ``lasts``: s for which the cause stays, drawn between the two; a fault that is latched stays at least until it is
    shown. ``sim_time``: needs a node with ``use_sim_time``, ``real_time``: one without. ``tempt``: activation while the
    cause is there is refused. ``late``: s by which the node's own words may be late, because the fault keeps it from
    its work. ``calls``: needs the rude client. ``else_``: answers that are right, too, where another fault is there.
    ``impossible``: why it cannot be made here, empty if it can. ``prompt``: takes effect in time whatever else there
    is. ``mute``: the node cannot say anything before the cause is gone. ``driven``: s for which the node must have
    driven its arm before. ``speaks``: gives good instructions, which end the hold of another fault. ``rearms``:
    deactivates and activates, which ends any fault of the other one. ``suspends``: a process, and resumes it, which
    would end the suspension of another fault early.
    """

    name: str
    inject: Inject
    answers: tuple[str, ...]
    within: float | None = None
    lasts: tuple[float, float] = (0.0, 0.3)
    sim_time: bool = False
    real_time: bool = False
    tempt: bool = False
    late: float = 0.0
    calls: bool = False
    else_: tuple[str, ...] = ()
    impossible: Callable[[], str] = str
    prompt: bool = True
    mute: bool = False
    driven: float = 0.0
    speaks: bool = False
    rearms: bool = False
    suspends: bool = False

    @property
    def patience(self) -> float:
        """Longest time in s from the injection to the answer."""
        return (self.within or 0.0) + 2 * INFERENCE_TIMEOUT + 1.0


def _no_bytes() -> str:
    from .fault_caller_node import RUNTIME

    return "" if RUNTIME == "embedded" else "rclpy sends no finished bytes to a service"


NEXT_IMAGE = FRAME_TIME + SLACK
NO_IMAGE_ANY_MORE = IMAGE_TIMEOUT + SLACK
REST_OF_STEP = STEP_DT + SLACK  # an action that the arm has begun is brought to its end
ANYWAY, OR_SILENT = (GOES_ON,), (GOES_ON, "NODE_SILENT")
STARVED = ("IMAGE_STALE", "WORKER_HUNG", "NODE_SILENT", "SAFETY_LOOP_SILENT")  # of a machine or process without time
BUSY = {"lasts": (0.3, 0.5), "late": 5.0, "calls": True, "else_": ("NODE_SILENT",)}
ASKED = {"prompt": False, "speaks": True}  # the policy is asked by a good instruction
NESTED = "<" * 250_000 + "a>" * 250_000  # taking one control string out leaves another

KINDS: tuple[Kind, ...] = (
    # The camera.
    Kind("camera stops", make.camera(on=False), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("camera pauses briefly", make.camera(on=False), (GOES_ON,), lasts=(0.05, IMAGE_TIMEOUT / 2),
         else_=("IMAGE_STALE",)),
    Kind("camera vanishes", lambda world, rng: world.camera.vanish(), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("camera frozen, fresh stamps", make.camera(frozen=True), ("IMAGE_FROZEN",), 5 * (STEP_DT + 0.15) + SLACK,
         prompt=False),
    Kind("camera repeats one message", make.camera(repeating=True), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("stamps 5 s old", make.camera(shift=-5.0), ("IMAGE_STALE",), NO_IMAGE_ANY_MORE),
    Kind("stamps 2 s ahead", make.camera(shift=2.0), ("IMAGE_FROM_FUTURE",), NEXT_IMAGE),
    Kind("unknown encoding", make.fields(encoding="h264"), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("depth encoding", make.fields(encoding="16UC1"), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("truncated image", make.spoil(make.truncate), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("image of no size", make.fields(width=0, height=0), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("image claims 2^31 rows", make.fields(height=2**31), ("IMAGE_INVALID",), NEXT_IMAGE),
    Kind("camera at 200 Hz", lambda world, rng: world.camera.start(200.0), (GOES_ON,), lasts=(0.3, 1.0)),
    Kind("camera changes to 640 x 480", make.camera(size=(480, 640)), (GOES_ON,), lasts=(0.3, 1.0)),
    # The operator's words.
    Kind("200 instructions in 0.5 s", make.flood, ("INSTRUCTION_FLOOD",), 0.5 + SLACK, speaks=True),
    Kind("1 MB instruction", make.babble("pick " * 200_000), ("INSTRUCTION_INVALID",), SLACK),
    Kind("0.75 MB of nested control strings", make.babble(NESTED), ("INSTRUCTION_INVALID",), SLACK),
    Kind("control strings only", make.babble("</s><s> <|im_end|> [INST]\n\x07"), ("INSTRUCTION_INVALID",), SLACK),
    Kind("blank instruction", make.babble(" \t\n"), ("NO_INSTRUCTION",), SLACK),
    Kind("instruction not UTF-8", make.text(b"\xff\xfe\x80\xc3"), ("INSTRUCTION_INVALID", GOES_ON), lasts=(0.2, 0.4)),
    # The policy.
    Kind("policy raises", make.say("rehearse raise"), ("WORKER_EXCEPTION",), REST_OF_STEP, **ASKED),
    Kind("policy out of memory", make.say("rehearse out of memory"), ("OUT_OF_MEMORY",), REST_OF_STEP, **ASKED),
    Kind("policy says NaN", make.say("rehearse nan"), ("NON_FINITE",), REST_OF_STEP, **ASKED),
    Kind("policy says infinity", make.say("rehearse infinity"), ("NON_FINITE",), REST_OF_STEP, **ASKED),
    Kind("policy says no action token", make.say("rehearse token"), ("NON_ACTION_TOKEN",), REST_OF_STEP, **ASKED),
    Kind("policy hangs", make.say("rehearse hang"), ("WORKER_HUNG",), REST_OF_STEP, **ASKED),
    # The operator's tools.
    Kind("parameter storm", make.storm, (GOES_ON,), lasts=(1.3, 1.5), late=1.0),
    Kind("dry run", lambda world, rng: world.set_dry_run(True), (DRY_RUN,), SLACK),
    Kind("deactivate", lambda world, rng: world.transition("deactivate"), (INACTIVE,), SLACK),
    Kind("shutdown", lambda world, rng: world.transition("shutdown"), (FINALIZED,), SLACK),
    Kind("transition that is not allowed", make.refused("cleanup", "configure", "activate"), (GOES_ON,),
         lasts=(0.1, 0.3)),
    Kind("transitions at random", make.transitions, (GOES_ON, INACTIVE, UNCONFIGURED), lasts=(0.3, 0.5),
         rearms=True),
    # Who else is there.
    Kind(
        "second publisher", lambda world, rng: world.rival(rng), ("SECOND_PUBLISHER",), LOOK + 0.1 + SLACK, tempt=True
    ),
    Kind("arm vanishes", lambda world, rng: world.leave_arm(), ("ARM_GONE",), LOOK + 0.1 + SLACK),
    Kind("another arm appears", lambda world, rng: world.second_arm(), ("ARM_CHANGED",), LOOK + 0.1 + SLACK,
         driven=SETTLING + 0.5),
    Kind("arm killed", lambda world, rng: world.helpers.signal_arm("SIGKILL"), ("ARM_GONE",), ARM_TIMEOUT + SLACK),
    Kind("arm suspended", lambda world, rng: world.helpers.signal_arm("SIGSTOP"), ("ARM_GONE",), ARM_TIMEOUT + SLACK),
    Kind("transforms cease", lambda world, rng: world.keep_transforms(), ("POSE_UNKNOWN",), POSE_TIMEOUT + SLACK,
         real_time=True),
    # Whoever calls its services.
    Kind("2 000 names asked about", make.names(2_000), ANYWAY, **BUSY),
    Kind("20 000 names asked about", make.names(20_000), OR_SILENT, **BUSY),
    Kind("200 000 names asked about", make.names(200_000), OR_SILENT, **BUSY),
    Kind("list with thousands of prefixes", make.prefixes, OR_SILENT, **BUSY),
    Kind("huge parameter values", make.huge_values, OR_SILENT, **BUSY),
    Kind("parameter type 77", make.wrong_values(make.UNKNOWN_TYPE), ANYWAY, **BUSY),
    Kind("wrong parameter types", make.wrong_values(make.BOOL, make.INTEGER, make.STRING), ANYWAY, **BUSY),
    Kind("transition with a huge label", make.label, OR_SILENT, **BUSY),
    Kind("text that is no text in requests", make.garbage, OR_SILENT, impossible=_no_bytes, **BUSY),
    Kind("hundreds of small requests", make.small_requests, OR_SILENT, **BUSY | {"lasts": (1.0, 1.2)}),
    Kind("client stops reading", make.stopped_client, OR_SILENT, **BUSY | {"lasts": (1.0, 1.2)}),
    Kind("client without ears", make.deaf_client, OR_SILENT, **BUSY),
    # The processes.
    Kind("SIGINT", make.signals("SIGINT"), (ENDS,)),
    Kind("SIGTERM", make.signals("SIGTERM"), (ENDS,)),
    Kind("SIGINT twice", make.signals("SIGINT", "SIGINT"), (ENDS,)),
    Kind("SIGKILL", make.signals("SIGKILL"), (ENDS,)),
    Kind("both told to end", make.end_group, (ENDS,)),
    Kind("both killed", make.signals("SIGKILL", whom=GROUP), (ENDS,)),
    Kind(
        "node suspended briefly", make.suspend(ACT, 0.02, 0.15), (GOES_ON,), lasts=(0.2, 0.3), late=0.2, else_=STARVED,
        suspends=True,
    ),
    Kind("node suspended", make.suspend(ACT, 0.4, 1.2), ("NODE_SILENT",), HEARTBEAT_TIMEOUT + 0.1, late=1.5,
         suspends=True),
    Kind("safety process suspended briefly", make.suspend(SAFETY, 0.02, 0.15), (GOES_ON,), lasts=(0.2, 0.3),
         else_=STARVED, suspends=True),
    Kind("safety process suspended", make.suspend(SAFETY, 0.7, 1.2), ("SAFETY_LOOP_SILENT",), SLACK, suspends=True),
    Kind("safety process killed", make.signals("SIGKILL", whom=SAFETY), ("SAFETY_LOOP_GONE",), SLACK),
    Kind("safety process told to end", make.end_safety, ("SAFETY_LOOP_GONE",), SLACK),
    Kind("both suspended", make.suspend(GROUP, 0.05, 1.2), (*STARVED, "CLOCK_STOPPED", GOES_ON), lasts=(1.3, 1.5),
         late=1.5, suspends=True),
    # The machine.
    Kind("memory pressure", lambda world, rng: world.helpers.take_memory(), (GOES_ON,), lasts=(1.5, 2.0), late=1.0,
         else_=STARVED),
    # The last of the busy loops starts beside the others, and so ends up to a second after the first.
    Kind("processors starved", lambda world, rng: world.helpers.starve(1.5), (GOES_ON, *STARVED), lasts=(0.8, 1.2),
         late=3.5),
    # rclpy's C code waits for the reader of its log, the embedded runtime does not.
    Kind("log that nobody reads", make.block_log, OR_SILENT, lasts=(0.6, 0.9), late=4.0, mute=True, speaks=True),
    Kind("shared memory full", lambda world, rng: world.helpers.fill_shared_memory(), (GOES_ON,), lasts=(0.5, 1.0),
         impossible=why_no_shared_memory),
    # Simulated time.
    Kind("clock stops", make.camera(clock_stands=True), ("CLOCK_STOPPED",), NO_IMAGE_ANY_MORE, sim_time=True),
    Kind(
        "clock jumps back", lambda world, rng: world.camera.jump(-rng.uniform(0.5, 100.0)),
        ("CLOCK_JUMPED", "IMAGE_FROM_FUTURE"), SLACK, sim_time=True,
    ),
    Kind(
        "clock jumps ahead", lambda world, rng: world.camera.jump(rng.uniform(0.5, 100.0)),
        (GOES_ON, "IMAGE_STALE", "IMAGE_FROM_FUTURE"), lasts=(0.5, 0.7), sim_time=True,
    ),
)  # fmt: skip
