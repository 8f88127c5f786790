"""What others have sent, in a line of a log."""

import pytest

from spec_vla_ros.foreign_text import SENTENCE, printable, record, sentence, shortened


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\r\nb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\x85b", "a\u202eb", "a\udcffb", "a\x0b\x0cb"],
    ids=["newline", "carriage return", "colour", "nul", "line separator", "next line", "bidi", "surrogate", "feeds"],
)
def test_nothing_in_a_foreign_text_begins_a_line_or_steers_a_terminal(text):
    for line in (printable(text), shortened(text), sentence(text), record(text, 1000)):
        assert line.isprintable()
        assert len(line.splitlines()) == 1
        assert "a" in line
        assert "b" in line


def test_what_can_be_read_stays_as_it_is():
    assert printable("grüß dich, 機械 'ja'") == "grüß dich, 機械 'ja'"
    assert shortened("pick up the block") == "'pick up the block'"
    assert shortened([0.0, 1.5, -2.0]) == "[0.0, 1.5, -2.0]"
    assert shortened(3) == "3"


class Long:
    """A sequence that is only looked at where it is asked."""

    def __len__(self):
        return 10**9

    def __getitem__(self, index):
        assert isinstance(index, slice), "no walk through all of it"
        return [0.0] * len(range(*index.indices(10**9)))


@pytest.mark.parametrize(
    ("value", "size"),
    [("x" * 10**6, "1000000"), (b"x" * 10**6, "1000000"), (Long(), "1000000000"), (["y" * 10**6] * 3, "1000000")],
    ids=["text", "bytes", "numbers", "texts"],
)
def test_a_long_value_is_told_by_its_beginning_and_size(value, size):
    told = shortened(value)
    assert size in told
    assert len(told) < 400


def test_a_sentence_has_an_end():
    assert len(sentence("x" * 10**6)) <= SENTENCE + 3


def test_further_lines_are_for_tracebacks_and_indented():
    """An exception's text may hold what somebody sent; its lines must not look like records."""
    text = "Traceback (most recent call last):\n  File\nValueError: no\n[ERROR] [1.0] [act]: stopped\x1b\n"
    lines = record(text, 1000).split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert len(lines) == 4
    assert all(line.startswith("  ") and line.isprintable() for line in lines[1:])
    assert "\n" not in record("no traceback\n[ERROR] forged", 1000)


def test_of_a_long_record_beginning_and_end_are_kept():
    cut = record("Traceback (most recent call last):\n" + "x\n" * 10**5 + "ValueError: the reason", 1000)
    assert len(cut) < 3000
    assert cut.startswith("Traceback")
    assert cut.endswith("ValueError: the reason")
