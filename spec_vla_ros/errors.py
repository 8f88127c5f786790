"""Named errors. The name is what a robot engineer reads in ``/diagnostics``.

Every error that may stop the arm carries a ``fault`` (a stable, machine-readable name) and a ``remedy`` (one
sentence that says what to do). The node latches the fault; nothing in this file knows about ROS.
"""

from __future__ import annotations


class SpecVlaError(Exception):
    """Base class: ``fault`` names the failure, ``remedy`` says what the operator can do about it."""

    fault = "INTERNAL_ERROR"
    remedy = "Report this with the log; it is a defect of spec_vla_ros."


class CheckpointError(SpecVlaError):
    """A checkpoint is unreadable, half-written, of another layout, or its tensors do not fit its config."""

    fault = "CHECKPOINT_INVALID"
    remedy = "Check the checkpoint folder: all shards present, config.json of an OpenVLA model, download finished."


class CheckpointChangedError(SpecVlaError):
    """The files of the checkpoint are no longer those that were loaded."""

    fault = "CHECKPOINT_CHANGED"
    remedy = "Deactivate, cleanup and configure load what is on disk now; do not write into a folder that is in use."


class StatisticsError(SpecVlaError):
    """The statistics key is missing, ambiguous or its numbers are invalid. The message lists the keys."""

    fault = "STATISTICS_INVALID"
    remedy = "Set unnorm_key to one of the keys that the message lists."


class ConfigurationError(SpecVlaError):
    """A setting has a value that cannot be, or that this machine cannot carry out."""

    fault = "CONFIGURATION_INVALID"
    remedy = "Correct the setting."


class StoppedError(SpecVlaError):
    """The process has been asked to end before the policy was loaded."""

    fault = "STOPPED"
    remedy = "Nothing is wrong: start the node again to load the policy."


class SelfCheckError(SpecVlaError):
    """The loaded model fails its self-check (for example: it ignores the image)."""

    fault = "SELF_CHECK_FAILED"
    remedy = "Do not drive an arm with this model; verify the checkpoint and the versions of torch and tokenizers."


class ImageError(SpecVlaError):
    """An image is empty, truncated or of an encoding that cannot be turned into RGB."""

    fault = "IMAGE_INVALID"
    remedy = "Publish rgb8 or bgr8 (or another encoding listed in docs/architecture.md) with a correct size and step."


class FutureImageError(SpecVlaError):
    """An image is stamped later than the present moment: its age cannot be known."""

    fault = "IMAGE_FROM_FUTURE"
    remedy = "Synchronise the clocks of camera and node (chrony, PTP); then deactivate and activate."


class PoseError(SpecVlaError):
    """Where the tool or a frame is, is not known or not known of late."""

    fault = "POSE_UNKNOWN"
    remedy = "Check what publishes TF, the names of the frames and the clocks; then deactivate and activate."


class InstructionError(SpecVlaError):
    """The instruction is empty, too long, or holds nothing but control strings."""

    fault = "INSTRUCTION_INVALID"
    remedy = "Send a short plain-text instruction such as 'pick up the red block'."


class NonActionTokenError(SpecVlaError):
    """The model emitted a token outside the 256 action bins; it is refused, never clipped to a full motion."""

    fault = "NON_ACTION_TOKEN"
    remedy = "Check that model, instruction and camera match the training data; the action was discarded."


class NonFiniteError(SpecVlaError):
    """Logits or an action value are NaN or infinite."""

    fault = "NON_FINITE"
    remedy = "Check GPU memory and precision settings, reload the model (cleanup, configure)."


class CommandError(Exception):
    """A command cannot go on; the whole message is for the person at the keyboard.

    ``status``: of the process then. ``lines``: whether the message may have several, such as the end of a log.
    """

    status = 1
    lines = False


class UsageError(CommandError):
    """The command line asks for what there is not."""

    status = 2
