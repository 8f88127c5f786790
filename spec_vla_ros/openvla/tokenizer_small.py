"""A tiny tokenizer in the form of Llama-2's, for small checkpoints of the same layout.

Same normaliser (prepend "▁", spaces become "▁"), byte-pair merges with byte fallback, ``<unk>`` = 0, ``<s>`` = 1,
``</s>`` = 2, the 256 byte tokens at 3..258, BOS added by the post-processor, and the single piece "▁" that OpenVLA
appends to its prompt. Everything that reads the 32 000-piece ``tokenizer.json`` reads this one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from .prompt_templates import OPENVLA_TEMPLATE

CONTROL_TOKENS = ("<unk>", "<s>", "</s>")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
FALLBACK_CHARACTERS = "▁abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'-"
_WORD = re.compile(r"▁?\w+|▁")


def build_small_tokenizer(instructions: Iterable[str], text_vocab: int = 512) -> Tokenizer:
    """Tokenizer whose ids all lie below ``text_vocab``; every word of the prompt is one piece.

    ``instructions``: the sentences the model will know (lower-cased as the prompt does). Words are merged as
    byte-pair encoding does, most frequent pair first, until each word of the template and of the instructions is a
    single piece; other words fall back to characters and bytes. The newline is the byte token ``<0x0A>``, as in
    Llama-2.

    Raises ``ValueError`` when ``text_vocab`` is too small, with the number of ids that would be needed.
    """
    sentences = [OPENVLA_TEMPLATE.format(instruction=text.lower().strip()) for text in instructions]
    words = Counter(w for s in sentences for w in _WORD.findall("▁" + s.replace(" ", "▁")))
    characters = sorted(set("".join(words)) | set(FALLBACK_CHARACTERS))
    merges = _learn_merges(words)
    pieces = [*CONTROL_TOKENS, *BYTE_TOKENS, *dict.fromkeys(left + right for left, right in merges), *characters]
    if len(pieces) > text_vocab:
        raise ValueError(f"the instructions need {len(pieces)} text ids, text_vocab allows {text_vocab}")

    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL_TOKENS])
    return tokenizer


def _learn_merges(words: Counter[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first and alphabetical among equals, until every word is one piece."""
    splits = {word: list(word) for word in words}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in splits.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        splits = {word: _merge(parts, best) for word, parts in splits.items()}


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
