"""The act node of a fault campaign: its parameters, and the words for what it answers. No ROS.

An answer is the name of a fault in diagnostics (one of :data:`HOLDS` is not latched), a state of the node, or one of
:data:`GOES_ON`, :data:`DRY_RUN` and :data:`ENDS`.
"""

from __future__ import annotations

STEP_DT, THINKING = 0.2, 0.05  # s of a step and of an inference
IMAGE_TIMEOUT, INFERENCE_TIMEOUT, FIRST_IMAGE_TIMEOUT = 0.4, 0.5, 2.0  # s
HEARTBEAT_TIMEOUT, ARM_TIMEOUT, POSE_TIMEOUT = 0.25, 0.6, 0.4  # s
MAX_LINEAR, MAX_ANGULAR = 0.04, 0.4  # m/s, rad/s; the script asks for 0.05 and 0.5, so that the limit is at work
PUBLISH_RATE = 100.0  # Hz
FRAME, TOOL = "base_link", "tool"
SLACK = 0.25  # s; a tick, an image, the way to the node, and a pause of a machine with two cores
SETTLING = 2.0  # s after the first arm in which others are taken as having been there with it
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
    "command_frame": FRAME, "tool_frame": TOOL, "heartbeat_timeout": HEARTBEAT_TIMEOUT, "arm_timeout": ARM_TIMEOUT,
    "pose_timeout": POSE_TIMEOUT, "compensation": "none",
}  # fmt: skip
# Where time is simulated: transforms from before a jump of /clock would be another fault.
SIMULATED = {"tool_frame": '""'}
SLOW = ("IMAGE_STALE", "WORKER_HUNG", "POSE_UNKNOWN", "ARM_GONE")  # what a machine that stands still causes, too
