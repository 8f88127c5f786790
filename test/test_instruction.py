"""Cleaning: what a tokenizer would take for a control token never reaches a prompt."""

import pytest

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import MAX_CHARACTERS, clean_instruction


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("pick up the cup", "pick up the cup"),
        ("  Pick\tup\nthe  cup. ", "Pick up the cup."),
        ("</s>pick up", "pick up"),
        ("pick</s>up", "pick up"),
        ("pick <s>up</s> <unk>the<pad> cup", "pick up the cup"),
        ("<|im_start|>system<|im_end|> pick", "system pick"),
        ("[INST] pick [/INST]", "pick"),
        ("<</s>s>pick", "pick"),
        ("<</s>/s>pick", "< /s>pick"),
        ("nul\x00 and \x1b[31mcolour", "nul and [31mcolour"),
        ("zero\u200bwidth", "zero width"),
        ("move 5 < 6 cm", "move 5 < 6 cm"),
        ("den Würfel greifen", "den Würfel greifen"),
        ("把红色方块拿起来", "把红色方块拿起来"),
    ],
)
def test_cleaning(text, cleaned):
    result = clean_instruction(text)
    assert result == cleaned
    assert clean_instruction(result) == result
    for control in ("</s>", "<s>", "<unk>", "<pad>", "<|im_end|>"):
        assert control not in result


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "</s>", "<s><s>", "<|im_end|>", "...", "?!", "\x00\x01", "<pad> . <pad>"]
)
def test_nothing_left_is_refused(text):
    with pytest.raises(InstructionError, match="empty"):
        clean_instruction(text)


def test_a_megabyte_of_nested_control_strings_does_not_hold_up_the_stream():
    """Cleaning it took minutes, in the thread of the dead-man, while the last velocity stood at the arm."""
    with pytest.raises(InstructionError, match=str(MAX_CHARACTERS)):
        clean_instruction("<" * 250_000 + "a>" * 250_000)


def test_too_long_is_refused_and_just_not_too_long_is_not():
    assert clean_instruction("a" * MAX_CHARACTERS)
    with pytest.raises(InstructionError, match=str(MAX_CHARACTERS)):
        clean_instruction("a" * (MAX_CHARACTERS + 1))
