"""The two published prompts. ``{instruction}`` is lower-case, without a trailing full stop."""

OPENVLA_TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
OPENVLA_V01_TEMPLATE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: What action should the robot take to {instruction}? ASSISTANT:"
)
