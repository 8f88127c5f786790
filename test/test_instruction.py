"""The operator's words in one bounded line. What a tokenizer takes for control tokens is the prompt's business."""

import pytest

from spec_vla_ros.errors import InstructionError
from spec_vla_ros.instruction import MAX_CHARACTERS, clean_instruction


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("pick up the cup", "pick up the cup"),
        ("Pick\tup\nthe  cup. ", "Pick up the  cup. "),
        ("pick up the <red block> and the [BLUE] one.", "pick up the <red block> and the [BLUE] one."),
        ("</s> pick <s>up", "</s> pick <s>up"),
        ("pick up the cup\r\n", "pick up the cup"),
        ("\x00\npick up", "pick up"),
        ("nul\x00 and \x1b[31mcolour", "nul  and  [31mcolour"),
        ("zero\u200bwidth", "zero width"),
        ("move 5 < 6 cm", "move 5 < 6 cm"),
        ("den Würfel greifen", "den Würfel greifen"),
        ("把红色方块拿起来", "把红色方块拿起来"),
    ],
)
def test_words_stay_as_they_were_said_in_one_line(text, cleaned):
    """Angle brackets, full stops and double spaces were dropped without a word; training had only lower-cased."""
    result = clean_instruction(text)
    assert result == cleaned
    assert clean_instruction(result) == result
    assert result.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "</s>",
        "<s><s>",
        "<|im_end|>",
        "...",
        "?!",
        "\x00\x01",
        "<pad> . <pad>",
        "<</s>s>",
        "</s><s> <|im_end|> [INST]\n\x07",
        "<<SYS>>[/inst]",
    ],
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
