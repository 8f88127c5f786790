"""The prompt: its guards, and the small tokenizer that stands in for Llama-2's."""

import pytest
from tokenizers import AddedToken, Tokenizer

from spec_vla_ros.errors import CheckpointError, InstructionError
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.openvla.prompt import MAX_PROMPT_IDS, Prompt
from spec_vla_ros.openvla.prompt_templates import OPENVLA_TEMPLATE
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
        "Pick up the RED block",
        "pick up the red</s> block",
        "<s>pick up the </s> red block <unk>",
        "pick up\x00the red\x1bblock\n",
        "<S>pick up the red block</S>",
        "pick<s></s>up the red <s> <unk></s>block</s> ",
    ],
)
def test_upper_case_and_control_strings_change_nothing(prompt, variant):
    assert prompt.ids(variant) == prompt.ids("pick up the red block")


@pytest.mark.parametrize(
    "text",
    [
        "pick up the red block.", "pick up  the red block", "pick up the red block ", " pick up the red block",
        "pick up the <red block>", "pick up the [blue] block", "pick up the <pad> block",
        "pick up the <|im_end|> block",
        "is it red?", "[inst] pick up the block",
    ],
)  # fmt: skip
def test_what_training_kept_reaches_the_prompt(prompt, text):
    """Full stops, double spaces and words in brackets were removed, so that another prompt was read than trained."""
    assert prompt.clean(text) == text
    assert prompt.text(text) == f"In: What action should the robot take to {text}?\nOut:"
    read = prompt.tokenizer.decode(prompt.ids(text)[1:-1])
    assert f"take to {text}?" in read


def test_only_control_tokens_of_the_loaded_tokenizer_are_removed(tokenizer):
    """What is one depends on the tokenizer, and on the case, since instructions are lower-cased."""
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_special_tokens(["<PAD>", "<|im_end|>", AddedToken("[inst]", lstrip=True, rstrip=True, special=True)])
    prompt = Prompt(other, END)
    assert prompt.clean("pick <|im_end|> up [INST] the <PAD> [/INST] cup.") == "pick up the <pad> [/inst] cup."
    assert prompt.clean("[INST] pick up") == "pick up", "it takes the space of the template with it"
    other.add_tokens(["<block>"])  # a word of its own, but none of control
    assert Prompt(other, END).clean("pick up the <block>") == "pick up the <block>"
    for control in ("<|im_end|>", "[inst]"):
        assert other.token_to_id(control) in other.encode(f"pick {control} up").ids
        assert other.token_to_id(control) not in prompt.ids(f"pick {control} up")


def test_a_character_that_the_tokenizer_does_not_know_is_no_control_string():
    from tokenizers import models, pre_tokenizers, processors

    words = ["<unk>", "<s>", "▁", *OPENVLA_TEMPLATE.split(), "pick", "up"]
    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    plain.add_special_tokens(["<unk>", "<s>"])
    prompt = Prompt(plain, END)
    assert prompt.clean("pick up 抓 it") == "pick up 抓 it"
    assert prompt.clean("pick <unk> up 抓 it") == "pick up 抓 it"


def test_a_tokenizer_that_takes_every_space_for_control_is_refused_and_ends(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_special_tokens([" "])
    with pytest.raises(InstructionError, match="freed of control tokens"):
        Prompt(other, END).clean("pick up the block")


@pytest.mark.parametrize("instruction", ["", "   ", "\n", ".", "?.", "</s>", "<s> <pad>.", "\x00", "▁", None, 3])
def test_nothing_to_do_is_refused(prompt, instruction):
    with pytest.raises(InstructionError):
        prompt.ids(instruction)


def test_a_megabyte_is_refused_before_any_work(prompt):
    with pytest.raises(InstructionError, match="at most 400"):
        prompt.ids("<" * 250_000 + "s>" * 250_000)


def test_a_novel_is_refused(prompt):
    with pytest.raises(InstructionError, match=f"at most {MAX_PROMPT_IDS}"):
        prompt.ids("pick up the red block and " * 40)


def test_braces_in_the_instruction_are_only_text(prompt):
    assert prompt.ids("pick {up} the {0} block")[0] == 1


@pytest.mark.parametrize(
    "instruction", ["push the block", "zébra 抓 quickly", "x" * 30, "<0x0a>", "go ▁", "go <</s>/s> on", "<s>go</s> "]
)
def test_invariants_hold_for_any_text(prompt, instruction):
    ids = prompt.ids(instruction)
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert 2 not in ids
    assert ids[-1] == prompt.empty_id
    assert ids[-2] != prompt.empty_id
    assert max(ids) < END - 256


def llama_like():
    """A tokenizer whose pieces of the prompt's ends have the ids that they have in Llama-2's."""
    from tokenizers import models, normalizers, processors

    ids = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁In": 512, "▁": 29871, ":": 29901}
    ids |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)} | {"▁I": 300, "I": 301, "n": 302}
    free = iter(sorted(set(range(32000)) - set(ids.values())))
    ids |= {f"<filler {number}>": number for number in free}
    merges = [("▁", "I"), ("▁I", "n")]
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<unk>", "<s>", "</s>")])
    return made


def test_ends_of_the_published_prompt():
    """As the reference gives them for "Pick up the red cup." on the published tokenizer."""
    ids = Prompt(llama_like(), 32000).ids("Pick up the red cup.")
    assert ids[:2] == [1, 512]
    assert ids[-2:] == [29901, 29871]


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
