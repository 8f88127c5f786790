"""Models for measuring time: the shapes of OpenVLA-7B, or of a checkpoint, with random weights and random heads."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from spec_vla_ros.decoding.drafters import Drafter
from spec_vla_ros.decoding.drafters.eagle import Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.heads.eagle_head import EagleHead
from spec_vla_ros.decoding.heads.vision_head import VisionHead, VisionHeadConfig
from spec_vla_ros.installed import model_folder
from spec_vla_ros.openvla.action_tokens import ActionTokens, choose_statistics
from spec_vla_ros.openvla.checkpoint import read_checkpoint
from spec_vla_ros.openvla.config import DINOV2_VIT_L, SIGLIP_SO400M, LlamaConfig, OpenVLAConfig
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS, example_statistics
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.precisions import named_precision
from spec_vla_ros.openvla.prompt import Prompt
from spec_vla_ros.openvla.quantize import quantise_layers
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer

HEAD_WIDTH = 1024  # of the vision head at 7B shapes; heads of small models are as wide as their verifier
SEVEN_B = OpenVLAConfig(towers=(DINOV2_VIT_L, SIGLIP_SO400M), llama=LlamaConfig())


def config_of(shapes: str, base_model: str = "", layers: int = 0) -> OpenVLAConfig:
    """Sizes of a model: ``shapes`` "7b" or a checkpoint folder, ``layers`` of the decoder instead of its own (0)."""
    config = SEVEN_B if shapes == "7b" else read_checkpoint(model_folder(shapes), base_model).config
    return shortened(config, layers) if layers else config


def shortened(config: OpenVLAConfig, layers: int) -> OpenVLAConfig:
    """The same model with fewer decoder layers, for a card that the whole does not fit."""
    return replace(config, llama=replace(config.llama, num_hidden_layers=layers))


@torch.no_grad()
def random_model(
    config: OpenVLAConfig, device: torch.device, precision: str, kernels: bool | None = None
) -> LoadedModel:
    """A model of ``config`` on ``device``; ``precision``: as the parameter ``dtype``; ``kernels``: our own, where None
    as a model that is loaded has them.
    """
    dtype, kind = named_precision(precision, device)
    with torch.device("meta"):
        model = OpenVLA(config)
    parts = quantise_layers(model.language_model, kind, dtype) if kind else {}
    model = model.to(dtype).to_empty(device=device)
    _randomise(model)
    for name, part in parts.items():
        shape = part.rows, part.layer.in_features
        part.fill(_drawn(f"language_model.model.layers.{name}.weight", shape, device).to(dtype))
    if not kind:
        model.language_model.fuse()
    model.language_model.use_kernels(kernels)
    # Its small vocabulary is not Llama's, which a prompt for that many ids would insist on.
    tokenizer = build_small_tokenizer(EXAMPLE_INSTRUCTIONS)
    return LoadedModel(
        model=model.eval().requires_grad_(False),
        config=config,
        transform=ImageTransform(config),
        prompt=Prompt(tokenizer, tokenizer.get_vocab_size()),
        tokens=ActionTokens(config.action_vocab_end, config.n_action_bins),
        statistics=choose_statistics(example_statistics(), None),
        source="random weights",
    )


@torch.no_grad()
def random_heads(loaded: LoadedModel) -> dict[str, Drafter]:
    """Both trained drafters, untrained."""
    eagle = Eagle(eagle_head(loaded), loaded.model, eagle_slots(loaded))
    return {"vision": Vision(vision_head(loaded)), "eagle": eagle}


@torch.no_grad()
def eagle_head(loaded: LoadedModel) -> EagleHead:
    """An untrained one where the model is."""
    with torch.device(loaded.model.device):
        head = EagleHead(loaded.config.llama).to(loaded.model.dtype).eval().requires_grad_(False)
    head.fuse(loaded.model.language_model)
    return head


@torch.no_grad()
def vision_head(loaded: LoadedModel) -> VisionHead:
    """An untrained one where the model is, of the width that goes with it."""
    hidden, patches = loaded.config.llama.hidden_size, loaded.config.towers[0].patches
    about = VisionHeadConfig(hidden, patches, loaded.statistics.action_dim, width=min(hidden, HEAD_WIDTH))
    return VisionHead(about).to(loaded.model.device, loaded.model.dtype).eval().requires_grad_(False)


def _randomise(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            parameter.copy_(_drawn(name, parameter.shape, parameter.device))


def _drawn(name: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Float32 that depends on the name and the kind of device alone: models in two precisions have the same weights."""
    if device.type == "meta":
        return torch.empty(shape, device=device)
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator, device=device) * 0.02
