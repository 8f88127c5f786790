"""An instruction in words to the token ids of OpenVLA's prompt.

Training lower-cased the instruction and did nothing else to it, and neither does this: full stops and double spaces are
part of what the model was trained on.

The tokenizer is the checkpoint's ``tokenizer.json`` read by the ``tokenizers`` library itself: wrappers around it
have changed how they treat leading spaces and control strings, and a shifted prompt fails silently.
"""

from __future__ import annotations

from tokenizers import Encoding, Tokenizer

from spec_vla_ros.errors import CheckpointError, InstructionError
from spec_vla_ros.foreign_text import shortened
from spec_vla_ros.instruction import MAX_CHARACTERS, MAX_RAW, one_line, says_something

from .prompt_templates import OPENVLA_TEMPLATE, OPENVLA_V01_TEMPLATE

BOS_ID = 1
EMPTY_PIECE = "▁"  # what follows "Out:" in training, where the action characters begin
LLAMA_VOCABULARY, LLAMA_EMPTY_ID = 32000, 29871
V01_BACKBONES = ("vicuna-v15-7b",)
MAX_PROMPT_IDS = 192


class Prompt:
    """Instruction -> prompt ids, [BOS, text ..., id of "▁"], for one checkpoint.

    ``template``: a sentence with ``{instruction}``; by default chosen from ``llm_backbone_id``.
    Raises :class:`CheckpointError` when the tokenizer cannot be Llama's.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        action_vocab_end: int,
        llm_backbone_id: str = "llama2-7b-pure",
        template: str | None = None,
    ) -> None:
        default = OPENVLA_V01_TEMPLATE if llm_backbone_id in V01_BACKBONES else OPENVLA_TEMPLATE
        self.template = template or default
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.empty_id = self.tokenizer.token_to_id(EMPTY_PIECE)
        if self.empty_id is None:
            raise CheckpointError(f"the tokenizer has no piece {EMPTY_PIECE!r}: not the tokenizer of this model")
        if action_vocab_end == LLAMA_VOCABULARY and self.empty_id != LLAMA_EMPTY_ID:
            raise CheckpointError(
                f"the tokenizer gives {EMPTY_PIECE!r} the id {self.empty_id}, Llama-2's gives {LLAMA_EMPTY_ID}"
            )
        self._before, _, self._after = self.template.partition("{instruction}")
        added = self.tokenizer.get_added_tokens_decoder().items()
        self._control = {number: token.content for number, token in added if token.special}
        self._unknown = getattr(self.tokenizer.model, "unk_token", None)

    @property
    def rule(self) -> str:
        """What decides the prompt of an instruction, for whoever keeps answers to it."""
        return f"{self.template} (lower-cased)"

    def clean(self, instruction: str) -> str:
        """One line, lower case, without what this tokenizer turns into control tokens; the rest is kept.

        A control string such as "</s>" in user text would become the control token itself. Raises
        :class:`InstructionError` when nothing is left.
        """
        if not isinstance(instruction, str):
            raise InstructionError(f"the instruction is a {type(instruction).__name__}, expected a string")
        if len(instruction) > MAX_RAW:
            raise InstructionError(
                f"the instruction has {len(instruction)} characters, at most {MAX_CHARACTERS} are accepted"
            )
        text = one_line(instruction).lower()
        for _ in range(1 + len(text)):  # removing one may join the halves of another
            spans = self._control_spans(text)
            if not spans:
                break
            for start, end in reversed(spans):
                text = _without(text, start, end)
        else:
            raise InstructionError(f"the instruction {shortened(instruction)} cannot be freed of control tokens")
        if not (says_something(instruction) and says_something(text)):
            raise InstructionError(f"the instruction {shortened(instruction)} is empty after cleaning")
        return text

    def text(self, instruction: str) -> str:
        """The whole prompt in words. Raises :class:`InstructionError`."""
        return f"{self._before}{self.clean(instruction)}{self._after}"

    def _control_spans(self, text: str) -> list[tuple[int, int]]:
        """Where in ``text`` the tokenizer sees control tokens, as it does within the prompt."""
        prompt, first = f"{self._before}{text}{self._after}", len(self._before)
        spans = []
        for start, end in self._controls(self.tokenizer.encode(prompt), prompt):
            start, end = max(start - first, 0), min(end - first, len(text))
            if start < end:
                spans.append((start, end))
        return spans

    def _controls(self, encoded: Encoding, prompt: str) -> list[tuple[int, int]]:
        """Spans of ``prompt`` that became control tokens. BOS, which is added, has none; a character that the
        tokenizer does not know is no control string, although its id is that of the token for it.
        """
        return [
            (start, end)
            for number, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
            if start < end
            and number in self._control
            and (self._control[number] != self._unknown or self._unknown in prompt[start:end])
        ]

    def ids(self, instruction: str) -> list[int]:
        """Token ids of the whole prompt. Raises :class:`InstructionError` (empty, too long)."""
        ids = self.tokenizer.encode(self.text(instruction)).ids
        if ids[-1] != self.empty_id:
            ids = [*ids, self.empty_id]
        if ids[0] != BOS_ID or ids.count(BOS_ID) != 1:
            raise CheckpointError(f"the tokenizer starts a prompt with {ids[:3]}, expected a single BOS = {BOS_ID}")
        if len(ids) > MAX_PROMPT_IDS:
            raise InstructionError(f"the prompt has {len(ids)} tokens, at most {MAX_PROMPT_IDS} are allowed")
        return ids


def _without(text: str, start: int, end: int) -> str:
    """``text`` without that span: a space between the words on both sides, none at an end."""
    left, right = text[:start], text[end:]
    if left.strip(" ") and right.strip(" "):
        return f"{left.rstrip(' ')} {right.lstrip(' ')}"
    return left.rstrip(" ") if left.strip(" ") else right.lstrip(" ")
