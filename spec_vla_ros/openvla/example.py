"""A small random model in the exact layout of ``openvla-7b``, for tests and for trying the tools without weights.

It sees the image, reads the instruction and always answers with action tokens; what it answers means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from .checkpoint import save_checkpoint
from .config import IMAGENET_MEAN, IMAGENET_STD, LlamaConfig, OpenVLAConfig, TowerConfig
from .model import OpenVLA
from .tokenizer_small import build_small_tokenizer

EXAMPLE_INSTRUCTIONS = ("pick up the red block", "put the green block on the plate", "push the blue block to the left")
TEXT_VOCAB, ACTION_BINS, PADDING = 512, 256, 64


def example_config(
    width: int = 32, layers: int = 2, towers: int = 2, image_size: int = 56, vocab_size: int = 0
) -> OpenVLAConfig:
    """Two small towers (or SigLIP alone) and a Llama of ``width`` x ``layers`` with 512 text ids and 256 actions."""
    vocab_end = (vocab_size or TEXT_VOCAB + ACTION_BINS + PADDING) - PADDING
    small = {"width": width, "depth": 3, "heads": 2, "mlp_width": 2 * width, "image_size": image_size}
    dino = TowerConfig(**small, registers=4, class_token=True, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    siglip = TowerConfig(**small)
    llama = LlamaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        vocab_size=vocab_end + PADDING,
    )
    return OpenVLAConfig(
        towers=(dino, siglip) if towers == 2 else (siglip,),
        llama=llama,
        vision_backbone_id="custom-dinosiglip" if towers == 2 else "custom-siglip",
        pad_token_id=vocab_end,
    )


@torch.no_grad()
def example_model(config: OpenVLAConfig | None = None, seed: int = 0) -> OpenVLA:
    """A model of ``config`` with seeded random weights, in evaluation mode, float32 on the CPU."""
    config = config or example_config()
    generator = torch.Generator().manual_seed(seed)
    model = OpenVLA(config)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layernorm.weight", "scale_factor")):
            parameter.copy_(1 + 0.1 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(0.1 * noise)
        elif name.endswith(("embed_tokens.weight", "pos_embed", "cls_token", "reg_token")):
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    head = model.language_model.lm_head.weight
    head[: config.action_vocab_end - config.n_action_bins] = 0
    head[config.action_vocab_end :] = 0
    return model.eval().requires_grad_(False)


def example_statistics(action_dim: int = 7) -> dict[str, dict]:
    """Statistics of one data set, "example": some centimetres and tenths of radians, the gripper unscaled."""
    high = [0.04] * min(3, action_dim) + [0.25] * max(action_dim - 4, 0) + [1.0] * (action_dim > 3)
    mask = [True] * (action_dim - 1) + [False]
    return {"example": {"action": {"q01": [-value for value in high], "q99": high, "mask": mask}}}


def write_example_checkpoint(
    path: str | os.PathLike[str],
    config: OpenVLAConfig | None = None,
    seed: int = 0,
    action_dim: int = 7,
    instructions: Sequence[str] = EXAMPLE_INSTRUCTIONS,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write :func:`example_model` as a checkpoint folder that :func:`.loader.load_model` reads."""
    model = example_model(config, seed)
    return save_checkpoint(model, path, example_statistics(action_dim), build_small_tokenizer(instructions), dtype)
