"""The prompt: its guards, and the small tokenizer that stands in for Llama-2's."""

import pytest
from tokenizers import Tokenizer

from spec_vla_ros.errors import CheckpointError, InstructionError
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS, Prompt
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer

END = 768


@pytest.fixture(scope="module")
def tokenizer():
    """Small tokenizer of the example instructions."""
    return build_small_tokenizer(EXAMPLE_INSTRUCTIONS)


@pytest.fixture(scope="module")
def prompt(tokenizer):
    """Prompt of the example model."""
    return Prompt(tokenizer, END)


def pieces(prompt, instruction):
    """The prompt as pieces."""
    return [prompt.tokenizer.id_to_token(i) for i in prompt.ids(instruction)]


def test_the_prompt_word_by_word(prompt):
    expected = "<s> ▁In : ▁What ▁action ▁should ▁the ▁robot ▁take ▁to ▁pick ▁up ▁the ▁red ▁block ? <0x0A> Out : ▁"
    assert " ".join(pieces(prompt, "pick up the red block")) == expected


@pytest.mark.parametrize(
    "variant",
    [
        "Pick up the RED block.",
        "  pick\tup \n the   red block ? ",
        "pick up the red block...",
        "pick up the red</s> block",
        "<s>pick up the <PAD> red block<unk>",
        "pick up\x00 the red\x1b block",
        "<S>pick up the red block</S>",
    ],
)
def test_spelling_variants_and_control_strings_change_nothing(prompt, variant):
    assert prompt.ids(variant) == prompt.ids("pick up the red block")


@pytest.mark.parametrize("instruction", ["", "   ", "\n", ".", "?.", "</s>", "<s> <pad>.", "\x00", None, 3])
def test_nothing_to_do_is_refused(prompt, instruction):
    with pytest.raises(InstructionError):
        prompt.ids(instruction)


def test_a_novel_is_refused(prompt):
    with pytest.raises(InstructionError, match=f"at most {MAX_PROMPT_IDS}"):
        prompt.ids("pick up the red block and " * 40)


def test_braces_in_the_instruction_are_only_text(prompt):
    assert prompt.ids("pick {up} the {0} block")[0] == 1


@pytest.mark.parametrize(
    "instruction", ["push the block", "zébra 抓 quickly", "x" * 30, "<0x0a>", "▁", "go <</s>/s> on"]
)
def test_invariants_hold_for_any_text(prompt, instruction):
    ids = prompt.ids(instruction)
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert 2 not in ids
    assert ids[-1] == prompt.empty_id
    assert ids[-2] != prompt.empty_id
    assert max(ids) < END - 256


def test_version_01_has_its_own_sentence(tokenizer):
    v01 = Prompt(tokenizer, END, llm_backbone_id="vicuna-v15-7b", template=None)
    assert v01.template.startswith("A chat between")
    assert v01.template.endswith("ASSISTANT:")
    override = Prompt(tokenizer, END, llm_backbone_id="vicuna-v15-7b", template="do {instruction}")
    assert pieces(override, "pick")[-3:] == ["o", "▁pick", "▁"]


def test_another_id_for_the_empty_piece_is_refused_for_the_published_vocabulary(tokenizer):
    with pytest.raises(CheckpointError, match="29871"):
        Prompt(tokenizer, 32000)


def test_a_tokenizer_without_the_empty_piece_is_refused():
    from tokenizers.models import BPE

    with pytest.raises(CheckpointError, match="no piece"):
        Prompt(Tokenizer(BPE({"a": 0}, [])), END)


def test_padding_and_truncation_of_the_file_are_switched_off(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.enable_truncation(4)
    other.enable_padding(length=64)
    assert Prompt(other, END).ids(EXAMPLE_INSTRUCTIONS[0]) == Prompt(tokenizer, END).ids(EXAMPLE_INSTRUCTIONS[0])


def test_the_small_tokenizer_has_the_layout_of_llamas(tokenizer):
    vocab = tokenizer.get_vocab()
    assert [vocab[t] for t in ("<unk>", "<s>", "</s>", "<0x00>", "<0xFF>")] == [0, 1, 2, 3, 258]
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert len(vocab) <= 512
    assert tokenizer.decode(tokenizer.encode("Put it, naïve 抓!").ids) == "Put it, naïve 抓!"


def test_the_small_tokenizer_is_reproducible():
    assert build_small_tokenizer(EXAMPLE_INSTRUCTIONS).to_str() == build_small_tokenizer(EXAMPLE_INSTRUCTIONS).to_str()


def test_too_many_words_say_how_many_ids_they_need():
    words = [" ".join(chr(97 + i % 26) * 3 + chr(97 + j) * 4 for j in range(20)) for i in range(20)]
    with pytest.raises(ValueError, match=r"need \d+ text ids, text_vocab allows 512"):
        build_small_tokenizer(words)
