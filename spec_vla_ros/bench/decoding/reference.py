"""Autoregressive decoding as people run it today: our towers, and the language model of transformers, eager."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from spec_vla_ros.openvla.loader import LoadedModel


class TransformersAutoregressive:
    """Greedy decoding with transformers' Llama and its growing cache, on the same weights.

    Raises ``ImportError`` without transformers. Quantised models are not supported.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        ours = loaded.config.llama
        with torch.device("meta"):
            model = LlamaForCausalLM(
                LlamaConfig(
                    hidden_size=ours.hidden_size,
                    intermediate_size=ours.intermediate_size,
                    num_hidden_layers=ours.num_hidden_layers,
                    num_attention_heads=ours.num_attention_heads,
                    vocab_size=ours.vocab_size,
                    rms_norm_eps=ours.rms_norm_eps,
                    max_position_embeddings=ours.max_position_embeddings,
                )
            )
        model.load_state_dict(loaded.model.language_model.state_dict(), assign=True)
        # Angles are computed, not loaded, so they have to be made again outside of "meta".
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(loaded.model.device)
        self._model, self._loaded = model.eval(), loaded

    @torch.inference_mode()
    def infer(self, image: np.ndarray, instruction: str) -> tuple[list[int], float]:
        """Tokens of one action and the milliseconds it took, preprocessing included."""
        loaded, began = self._loaded, time.perf_counter()
        device = loaded.model.device
        pixels = loaded.transform(image)[None].to(device)
        ids = torch.tensor([loaded.prompt.ids(instruction)], device=device)
        rows: dict[str, Any] = {
            "inputs_embeds": loaded.model.prompt_embeds(loaded.model.embed_image(pixels), ids),
        }
        tokens, cache = [], None
        while True:
            out = self._model(**rows, past_key_values=cache, use_cache=True)
            cache, choice = out.past_key_values, out.logits[:, -1:].argmax(-1)
            tokens.append(int(choice))
            if len(tokens) == loaded.statistics.action_dim:
                return tokens, 1e3 * (time.perf_counter() - began)
            rows = {"input_ids": choice}
