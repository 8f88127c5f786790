"""The operator's words before they reach a policy.

What a tokenizer would take for a control token depends on the tokenizer: the policy removes exactly that
(:meth:`.openvla.prompt.Prompt.clean`). Here the words only become one line of bounded length. Everything else stays as
it was said, because the models were trained on instructions that had been lower-cased and nothing more.
"""

from __future__ import annotations

import re

from spec_vla_ros.errors import InstructionError

MAX_CHARACTERS = 400  # about a hundred tokens; longer than any instruction of the training data
MAX_RAW = 4 * MAX_CHARACTERS  # before cleaning

# What common tokenizers call their control tokens. It is removed nowhere: a text of nothing else asks for nothing.
_CONTROL_STRING = re.compile(
    r"</?s>|<(?:unk|pad|bos|eos|mask)>|<\|[^<>|]*\|>|\[(?:unk|pad|bos|eos|mask|cls|sep|/?inst)\]|<</?sys>>",
    re.IGNORECASE,
)


def clean_instruction(text: str) -> str:
    """One line: control characters at the ends are cut off, elsewhere each becomes a space; the rest is kept.

    Raises :class:`InstructionError` when there is nothing but control strings and punctuation, or too much.
    """
    if len(text) > MAX_RAW:  # before any work
        raise InstructionError(f"the instruction has {len(text)} characters, at most {MAX_CHARACTERS} are accepted")
    text = one_line(text)
    if len(text) > MAX_CHARACTERS:
        raise InstructionError(f"the instruction has {len(text)} characters, at most {MAX_CHARACTERS} are accepted")
    if not says_something(text):
        raise InstructionError("the instruction is empty, or holds nothing but control strings and punctuation")
    return text


def one_line(text: str) -> str:
    """``text`` without control characters, line breaks among them: a terminal ends every line with one."""
    first, last = 0, len(text)
    while first < last and not text[first].isprintable():
        first += 1
    while first < last and not text[last - 1].isprintable():
        last -= 1
    return "".join(c if c.isprintable() else " " for c in text[first:last])


def says_something(text: str) -> bool:
    """Whether a letter or a digit is left of ``text`` once control strings are taken out, nested ones as well."""
    while (shorter := _CONTROL_STRING.sub("", text)) != text:
        text = shorter
    return any(c.isalnum() for c in text)
