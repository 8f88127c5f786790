"""The operator's words before they reach a prompt."""

from __future__ import annotations

import re

from spec_vla_ros.errors import InstructionError

MAX_CHARACTERS = 400  # about a hundred tokens; longer than any instruction of the training data
MAX_RAW = 4 * MAX_CHARACTERS  # before cleaning

# Tokenizers turn strings such as "</s>" or "<|im_end|>" in user text into the control token itself.
_CONTROL_STRING = re.compile(r"</?\|?\s*[A-Za-z_][\w ]{0,30}\|?/?>|\[/?[A-Z_]{2,12}\]")


def clean_instruction(text: str) -> str:
    """One line of plain text: no control strings, no control characters, single spaces.

    The policy may clean further (case, punctuation) for its own prompt. Raises :class:`InstructionError` when nothing
    but punctuation is left, or too much.
    """
    if len(text) > MAX_RAW:  # before any work: cleaning nested control strings takes the square of their number
        raise InstructionError(f"the instruction has {len(text)} characters, at most {MAX_CHARACTERS} are accepted")
    text = "".join(c if c.isprintable() else " " for c in text)
    while (shorter := _CONTROL_STRING.sub(" ", text)) != text:  # removing one may join the halves of another
        text = shorter
    text = " ".join(text.split())
    if not any(c.isalnum() for c in text):
        raise InstructionError("the instruction is empty, or holds nothing but control strings and punctuation")
    if len(text) > MAX_CHARACTERS:
        raise InstructionError(f"the instruction has {len(text)} characters, at most {MAX_CHARACTERS} are accepted")
    return text
