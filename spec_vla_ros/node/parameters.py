"""Every parameter of the act node in one table, and the snapshots that the node takes of it.

The table is the reference: ``config/act.yaml`` repeats its defaults and a test holds the two together. No ROS is
imported until the parameters are declared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from spec_vla_ros.decoding.drafters import DRAFTERS
from spec_vla_ros.decoding.presets import NAMES as PRESETS
from spec_vla_ros.decoding.presets import decided_by
from spec_vla_ros.errors import InstructionError
from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.instruction import clean_instruction
from spec_vla_ros.motion.pacing import COMPENSATIONS, PACINGS
from spec_vla_ros.motion.watchdog import Limits
from spec_vla_ros.openvla.picture import AUTO, IMAGE_RESIZES
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.ros.parameters import Spec, declare_all, fixed
from spec_vla_ros.tolerance import NO_GRIPPER_RADIUS

SHORTEST_STEP = 0.02  # s
FRAMES = ("base_frame", "command_frame", "tool_frame")  # an empty one is none, or another one
BOX = {"workspace_min", "workspace_max"}
DECODERS = ("autoregressive", "speculative")
EMITS = ("verifier", "draft")
# What older files and command lines may still set: name, and what to say of it.
REMOVED = {"gripper_radius": NO_GRIPPER_RADIUS}
DECODING = DecodeSettings(preset="auto")  # the defaults


PARAMETERS: tuple[Spec, ...] = (
    # The model. Fixed, because loading it takes minutes.
    fixed("policy", "openvla", "The model, or canned moves for bringing up an arm", choices=("openvla", "scripted")),
    fixed("model", "openvla/openvla-7b", "Checkpoint folder or hub id"),
    fixed("revision", "", "Branch, tag or commit of a hub id; empty = its default"),
    fixed(
        "base_model",
        "",
        "Base model of a LoRA adapter: folder, hub id or hub id@revision; empty = the one that the adapter names",
    ),
    fixed("unnorm_key", "", "Data set whose statistics make m and rad of actions; empty = the checkpoint's only one"),
    fixed(
        "draft_heads", "", "Folder with trained draft heads (vision/, eagle/); empty = drafters/ of the model's folder"
    ),
    fixed("habits_file", "", "File that keeps over starts what the model said, to draft from; empty = it is not kept"),
    fixed("device", "auto", "auto = cuda where there is one, else cpu; or a torch device such as cuda:1"),
    fixed(
        "dtype",
        "auto",
        "Precision; auto = bfloat16 on a GPU, float32 on the CPU; of the language model's layers: float8, int8 = "
        "weights and activations, to save time and memory; int8_weights, int4_weights = weights alone, to save memory",
        choices=(
            *("auto", "bfloat16", "float16", "float32", "float8", "int8", "int8_weights", "int4_weights"),
            "int4",  # of older files
        ),
    ),
    fixed("cpu_threads", 0, "Threads of torch on the CPU; 0 = its own choice, one per core", range=(0, 256)),
    fixed("centre_crop", False, "Use the centre 90 % of the image, for checkpoints trained with image augmentation"),
    fixed(
        "image_resize",
        AUTO,
        "evaluation = JPEG and antialiased to the model's size before the crop, as published models were evaluated; "
        "lanczos = without the JPEG; processor = image processor alone; auto = as the checkpoint says, else evaluation",
        choices=(AUTO, *IMAGE_RESIZES),
    ),
    fixed(
        "script",
        "axes",
        "Moves of the scripted policy; rehearse = axes, and faults on request of the instruction",
        choices=("axes", "still", "nan", "rehearse"),
    ),
    fixed("script_delay", 0.1, "s that the scripted policy pretends to think", range=(0.0, 10.0)),
    # The camera.
    fixed(
        "image_transport",
        "raw",
        "raw = sensor_msgs/Image on the topic image; compressed = CompressedImage on <that topic>/compressed",
        choices=("raw", "compressed"),
    ),
    # The arm.
    fixed("base_frame", "base_link", "Frame of the robot's base, whose axes actions refer to"),
    fixed("tf_prefix", "", "Put in front of base_frame, command_frame and tool_frame, e.g. left/ for left/base_link"),
    fixed("command_frame", "", "Frame of the velocities; empty = base_frame; another one is looked up in TF"),
    fixed("tool_frame", "", "TF frame of the tool, kept inside workspace_min..max; empty = no box"),
    fixed("servo_node", "", "Node of MoveIt Servo that is switched to velocity input, e.g. /servo_node; empty = none"),
    fixed(
        "step_dt", 0.0, "s that one action takes; 0 = the data set's known period (bridge_orig 0.2)", range=(0.0, 2.0)
    ),
    fixed(
        "gripper_interface",
        "topic",
        "topic = std_msgs/Float64 on gripper_command; action = control_msgs/GripperCommand on gripper_cmd",
        choices=("topic", "action"),
    ),
    fixed(
        "gripper_open",
        0.08,
        "With the action: position of the open gripper, m (rad where its joint turns)",
        range=(0.0, 1.0),
    ),
    fixed("gripper_closed", 0.0, "With the action: position of the closed gripper, likewise", range=(0.0, 1.0)),
    fixed("gripper_effort", 20.0, "N; with the action: effort at most", range=(0.0, 500.0)),
    fixed("publish_rate", 100.0, "Hz at which velocities are sent while active", range=(20.0, 500.0)),
    fixed("autostart", False, "Configure and activate without a lifecycle manager"),
    # Recordings.
    fixed("record_to", "", "Folder that gets one bag per executed instruction, by rosbag2's recorder; empty = none"),
    fixed(
        "record_keep_free",
        2.0,
        "GiB of free space in it without which no recording begins; one under way ends at half of that",
        range=(0.0, 1000.0),
    ),
    # What to do.
    Spec("instruction", "", "Instruction at activation, until one arrives on the topic; empty = hold and wait"),
    Spec("dry_run", True, "Send nothing to the arm; everything else is published"),
    # Decoding. Read once per inference, so that no change lands between draft and verification.
    Spec(
        "preset",
        DECODING.preset,
        "Way to decode; auto = whatever is quickest on this device; custom = as the next four say",
        choices=PRESETS,
    ),
    Spec("decoder", DECODING.decoder, "With preset custom: how tokens are decoded", choices=DECODERS),
    Spec("drafters", list(DECODING.drafters), "With preset custom: who drafts, in the order of their branches"),
    Spec(
        "draft_width",
        DECODING.draft_width,
        "With preset custom: branches of each drafter per pass; 0 = what is quickest",
        range=(0, 64),
    ),
    Spec("emit", DECODING.emit, "With preset custom: whose token is emitted where a draft is accepted", choices=EMITS),
    Spec(
        "acceptance_radius",
        DECODING.acceptance_radius,
        "bins within which a drafted motion token is accepted; 0 = exact; bridge_orig: 1 bin is 0.2-0.3 mm per step; "
        "the gripper's token is never drafted",
        range=(0, 20),
    ),
    Spec(
        "acceptance_mm",
        0.0,
        "mm per step in x, y, z; tightens acceptance_radius, never loosens it (for mm alone set that to 20); "
        "0 = no such bound",
        range=(0.0, 20.0),
    ),
    Spec(
        "acceptance_mrad",
        0.0,
        "mrad per step in roll, pitch, yaw; likewise; less than a bin, such as 0.01, is exact",
        range=(0.0, 200.0),
    ),
    Spec(
        "acceptance_sum",
        0,
        "bins that the distances of all accepted tokens of an action may add up to; 0 = no limit",
        range=(0, 120),
    ),
    Spec(
        "second_look",
        DECODING.second_look,
        "nats; verify an action once more if the model was less sure than this of any choice; nearer to exact, slower",
        range=(0.0, 5.0),
    ),
    Spec(
        "draft_depth",
        DECODING.draft_depth,
        "tokens of a drafted branch at most; 0 = none; 7 tokens leave 6 to draft",
        range=(0, 6),
    ),
    # When to look and when to move.
    Spec(
        "pacing",
        PACINGS[0],
        "blocking = stand still after each step until an image from then has been answered; steady = think while the "
        "step runs, and let the next one begin where it ends",
        choices=PACINGS,
    ),
    Spec(
        "compensation",
        "catch_up",
        "With steady pacing: what becomes of the motion between the image and its step; none = it is ignored, subtract "
        "= taken off the step, catch_up = the same, and the rest takes no longer than the model would have taken",
        choices=COMPENSATIONS,
    ),
    # From action to velocity. Read once per inference.
    Spec("action_scale", 0.5, "Share of each motion that is executed; start low on a new robot", range=(0.0, 1.0)),
    Spec("max_linear_speed", 0.10, "m/s; faster steps are slowed as a whole and keep direction", range=(0.0, 0.5)),
    Spec("max_angular_speed", 0.5, "rad/s; likewise", range=(0.0, 2.0)),
    Spec("gripper_threshold", 0.5, "Gripper value above which the gripper opens (1 = open)", range=(0.0, 1.0)),
    Spec("gripper_hysteresis", 0.1, "Half width of the band around it in which nothing changes", range=(0.0, 0.5)),
    Spec("gripper_invert", False, "Command 0 = open, 1 = closed, for grippers that count that way"),
    Spec("workspace_min", [-10.0, -10.0, -10.0], "m, x y z in base_frame: where tool_frame may go at least"),
    Spec("workspace_max", [10.0, 10.0, 10.0], "m, likewise at most"),
    # The dead-man. In force at once.
    Spec("image_timeout", 0.5, "s; an image older than this stops the arm (fault IMAGE_STALE)", range=(0.05, 5.05)),
    Spec(
        "first_image_timeout",
        5.0,
        "s after activation to wait for the first image (fault NO_IMAGE); cameras start later than nodes",
        range=(0.0, 60.0),
    ),
    Spec(
        "heartbeat_timeout",
        0.25,
        "s without a sign of this node after which its safety process stops the arm (fault NODE_SILENT)",
        range=(0.05, 5.05),
    ),
    Spec(
        "arm_timeout",
        1.0,
        "s of silence of joint_states or Servo's status, once heard, that stop the arm (fault ARM_GONE); 0 = never",
        range=(0.0, 10.0),
    ),
    Spec(
        "future_tolerance",
        0.05,
        "s that an image's stamp may lie ahead of the node's clock (fault IMAGE_FROM_FUTURE)",
        range=(0.0, 5.0),
    ),
    Spec(
        "pose_timeout",
        0.5,
        "s; a transform of TF that is needed and older than this stops the arm (fault POSE_UNKNOWN)",
        range=(0.0, 5.0),
    ),
    Spec(
        "frozen_image_steps",
        3,
        "Motions in a row after which an unchanged image stops the arm (fault IMAGE_FROZEN); 0 = never",
        range=(0, 100),
    ),
    Spec(
        "inference_timeout",
        5.0,
        "s; an inference that takes longer stops the arm (fault WORKER_HUNG)",
        range=(0.0, 600.0),
    ),
)


@dataclass(frozen=True)
class Fixed:
    """The read-only parameters, as configure saw them. Units as in the table; frames are whole, with ``tf_prefix``."""

    policy: str
    model: str
    revision: str
    base_model: str
    unnorm_key: str
    draft_heads: str
    habits_file: str
    device: str
    dtype: str
    cpu_threads: int
    centre_crop: bool
    image_resize: str
    script: str
    script_delay: float
    image_transport: str
    base_frame: str
    tf_prefix: str
    command_frame: str
    tool_frame: str
    servo_node: str
    step_dt: float
    gripper_interface: str
    gripper_open: float
    gripper_closed: float
    gripper_effort: float
    publish_rate: float
    autostart: bool
    record_to: str
    record_keep_free: float


@dataclass(frozen=True)
class Tunables:
    """The dynamic parameters of one inference, read together. Units as in the table."""

    decode: DecodeSettings
    action_scale: float
    max_linear_speed: float
    max_angular_speed: float
    gripper_threshold: float
    gripper_hysteresis: float
    gripper_invert: bool
    compensation: str = "catch_up"
    frozen_image_steps: int = 3


def declare(node: Any) -> None:
    """Declare the whole table on ``node`` and refuse values that the table does not allow from now on."""
    from rcl_interfaces.msg import SetParametersResult

    declare_all(node, PARAMETERS)

    def validate(changes: Iterable[Any]) -> Any:
        values = {parameter.name: parameter.value for parameter in changes}
        # A value that is there already changes nothing, whoever decides; a dump that is loaded sets them all.
        new = {
            name: value
            for name, value in values.items()
            if not node.has_parameter(name) or _plain(value) != _plain(node.get_parameter(name).value)
        }
        box = {name: values.get(name, node.get_parameter(name).value) for name in BOX}
        reason = (
            refusal(values)
            or (box_refusal(**box) if BOX & values.keys() else "")
            or overruled(new, values.get("preset", node.get_parameter("preset").value))
        )
        if reason:  # rqt shows a refused value as if it were set
            node.get_logger().warning(f"refused: {reason}")
        return SetParametersResult(successful=not reason, reason=reason)

    node.add_on_set_parameters_callback(validate)


def refusal(changes: dict[str, Any]) -> str:
    """Why these values cannot be set, or an empty string. Types and ranges are the runtime's business."""
    for spec in PARAMETERS:
        if spec.choices and spec.name in changes and changes[spec.name] not in spec.choices:
            return f"{spec.name} must be one of {', '.join(spec.choices)}, got {shortened(changes[spec.name])}"
    if 0 < changes.get("step_dt", 0.0) < SHORTEST_STEP:
        return f"step_dt must be 0 or at least {SHORTEST_STEP} s, got {changes['step_dt']}"
    if changes.get("instruction"):  # empty is allowed: hold
        try:
            clean_instruction(changes["instruction"])
        except InstructionError as error:
            return str(error)
    if unknown := [name for name in changes.get("drafters", ()) if name not in DRAFTERS]:
        return f"unknown drafters {shortened(unknown)}; available: {', '.join(sorted(DRAFTERS))}"
    if len(changes.get("drafters", ())) > len(DRAFTERS):
        return f"drafters has {len(changes['drafters'])} names, there are {len(DRAFTERS)} drafters"
    return ""


def box_refusal(workspace_min: Any, workspace_max: Any) -> str:
    """Why these corners (m) make no box, or an empty string."""
    corners = {"workspace_min": workspace_min, "workspace_max": workspace_max}
    for name, corner in corners.items():
        if len(corner) != 3 or not all(math.isfinite(value) for value in corner):
            return f"{name} must have three finite values (x y z in m), got {shortened(corner)}"
    if any(low >= high for low, high in zip(workspace_min, workspace_max, strict=True)):
        return f"workspace_min {list(workspace_min)} must be below workspace_max {list(workspace_max)} in x, y and z"
    return ""


def overruled(changes: dict[str, Any], preset: str) -> str:
    """Why changes would do nothing because ``preset`` decides in their place, or an empty string."""
    names = [name for name in decided_by(preset) if name in changes]
    if not names:
        return ""
    return f"preset {preset!r} decides {', '.join(names)}; set preset to 'custom' first"


def ignored(node: Any) -> str:
    """What a file or launch argument sets although the preset decides it, as a sentence; empty if nothing."""
    defaults = {spec.name: spec.default for spec in PARAMETERS}
    preset = node.get_parameter("preset").value
    values = {name: node.get_parameter(name).value for name in decided_by(preset)}
    changed = {name: value for name, value in values.items() if _plain(value) != _plain(defaults[name])}
    return overruled(changed, preset)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def read_fixed(node: Any) -> Fixed:
    """The read-only parameters; raises ``ValueError`` for a value that is none of the choices."""
    values = {spec.name: node.get_parameter(spec.name).value for spec in PARAMETERS}
    if reason := refusal(values) or box_refusal(
        *(values[name] for name in sorted(BOX, reverse=True))
    ):  # a value from a file has passed no callback yet
        raise ValueError(reason)
    values |= {name: values["tf_prefix"] + values[name] for name in FRAMES if values[name]}
    return Fixed(**{name: values[name] for name in Fixed.__dataclass_fields__})


def read_tunables(node: Any) -> Tunables:
    """One consistent snapshot for one inference."""
    names = (
        *("preset", "decoder", "drafters", "draft_width", "emit"),
        *("acceptance_radius", "draft_depth", "second_look"),
    )
    decode = {name: node.get_parameter(name).value for name in names}
    decode["drafters"] = tuple(decode["drafters"])
    for bound in ("mm", "mrad", "sum"):
        decode[f"radius_{bound}"] = node.get_parameter(f"acceptance_{bound}").value or None  # 0 = no such bound
    others = [name for name in Tunables.__dataclass_fields__ if name != "decode"]
    return Tunables(DecodeSettings(**decode), **{name: node.get_parameter(name).value for name in others})


def read_box(node: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Corners of the workspace, m in the base frame; read with every heartbeat."""
    return tuple(node.get_parameter("workspace_min").value), tuple(node.get_parameter("workspace_max").value)


def read_limits(node: Any) -> Limits:
    """What the safety loop holds the arm to; read with every heartbeat, a limit must not wait for an inference."""
    names = {
        "image": "image_timeout",
        "first_image": "first_image_timeout",
        "inference": "inference_timeout",
        "heartbeat": "heartbeat_timeout",
        "pose": "pose_timeout",
        "linear": "max_linear_speed",
        "angular": "max_angular_speed",
    }
    return Limits(**{field: node.get_parameter(name).value for field, name in names.items()})
