"""An instruction in words to the token ids of OpenVLA's prompt.

The tokenizer is the checkpoint's ``tokenizer.json`` read by the ``tokenizers`` library itself: wrappers around it
have changed how they treat leading spaces and control strings, and a shifted prompt fails silently.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from spec_vla_ros.errors import CheckpointError, InstructionError

from .prompt_templates import OPENVLA_TEMPLATE, OPENVLA_V01_TEMPLATE

BOS_ID = 1
EMPTY_PIECE = "▁"  # what follows "Out:" in training, where the action characters begin
LLAMA_VOCABULARY, LLAMA_EMPTY_ID = 32000, 29871
CONTROL_STRINGS = ("<s>", "</s>", "<unk>", "<pad>")
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
        added = self.tokenizer.get_added_tokens_decoder().values()
        self.control_strings = tuple({token.content.lower() for token in added if token.special} | set(CONTROL_STRINGS))

    def clean(self, instruction: str) -> str:
        """Lower case, single spaces, no control strings, no trailing ".", "?" or "!".

        A control string such as "</s>" in user text would become the control token itself, so it is removed.
        Raises :class:`InstructionError` when nothing is left.
        """
        if not isinstance(instruction, str):
            raise InstructionError(f"the instruction is a {type(instruction).__name__}, expected a string")
        text = "".join(c if c.isprintable() else " " for c in instruction).lower()
        for control in self.control_strings:
            text = text.replace(control, " ")  # a space, so that no new control string can close up around it
        text = " ".join(text.split()).rstrip(".?! ")
        if not text:
            raise InstructionError(f"the instruction {instruction!r} is empty after cleaning")
        return text

    def ids(self, instruction: str) -> list[int]:
        """Token ids of the whole prompt. Raises :class:`InstructionError` (empty, too long)."""
        ids = self.tokenizer.encode(self.template.format(instruction=self.clean(instruction))).ids
        if ids[-1] != self.empty_id:
            ids = [*ids, self.empty_id]
        if ids[0] != BOS_ID or ids.count(BOS_ID) != 1:
            raise CheckpointError(f"the tokenizer starts a prompt with {ids[:3]}, expected a single BOS = {BOS_ID}")
        if len(ids) > MAX_PROMPT_IDS:
            raise InstructionError(f"the prompt has {len(ids)} tokens, at most {MAX_PROMPT_IDS} are allowed")
        return ids
