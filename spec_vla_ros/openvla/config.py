"""Architecture of an OpenVLA checkpoint, read from its ``config.json``.

Large language model sizes that the file omits are the defaults of transformers' ``LlamaConfig`` (that is how the
published checkpoints are written). Vision towers are named by ``vision_backbone_id``; a small checkpoint states the
sizes of its own towers under ``vision_towers`` (same tensor names, other widths).
"""

from __future__ import annotations

from dataclasses import dataclass

# How an image becomes a picture of the model's size (:mod:`.picture`).
EVALUATION = "evaluation"  # a JPEG, then Lanczos to the model's size, as in the published evaluations
LANCZOS = "lanczos"  # the same without the JPEG
PROCESSOR = "processor"  # the published image processor alone, on the image as the camera sent it
IMAGE_RESIZES = (EVALUATION, LANCZOS, PROCESSOR)


@dataclass(frozen=True)
class TowerConfig:
    """One vision transformer. The feature is the output of block ``depth - 2``; the last block is dead weight."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    image_size: int
    patch_size: int = 14
    registers: int = 0
    class_token: bool = False
    layer_scale: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of one image (without class token and registers)."""
        return self.grid**2

    @property
    def used_depth(self) -> int:
        """Blocks that are computed."""
        return self.depth - 1


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DINOV2_VIT_L = TowerConfig(
    width=1024, depth=24, heads=16, mlp_width=4096, image_size=224, registers=4, class_token=True, layer_scale=True,
    mean=IMAGENET_MEAN, std=IMAGENET_STD,
)  # fmt: skip
SIGLIP_SO400M = TowerConfig(width=1152, depth=27, heads=16, mlp_width=4304, image_size=224)


@dataclass(frozen=True)
class LlamaConfig:
    """Llama decoder; the defaults are Llama-2-7B as transformers fills them in."""

    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    vocab_size: int = 32064
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class OpenVLAConfig:
    """The whole model. ``towers`` holds one (SigLIP) or two (DINOv2, SigLIP) entries, in channel order.

    ``image_resize``: how pictures came about in training, of :data:`IMAGE_RESIZES`; published checkpoints do
    not say it and were all trained and evaluated the first way. ``image_resize_strategy``: the processor's.
    """

    towers: tuple[TowerConfig, ...]
    llama: LlamaConfig
    vision_backbone_id: str = "dinosiglip-vit-so-224px"
    llm_backbone_id: str = "llama2-7b-pure"
    image_resize_strategy: str = "resize-naive"
    pad_to_multiple_of: int = 64
    n_action_bins: int = 256
    pad_token_id: int = 32000
    image_resize: str = EVALUATION

    @property
    def fused(self) -> bool:
        """Two towers, concatenated features."""
        return len(self.towers) == 2

    @property
    def vision_width(self) -> int:
        """Channels of the concatenated features."""
        return sum(t.width for t in self.towers)

    @property
    def action_vocab_end(self) -> int:
        """One past the highest action token id (32000 for OpenVLA)."""
        return self.llama.vocab_size - self.pad_to_multiple_of

    @property
    def image_size(self) -> int:
        """Side of the square input image in pixels."""
        return self.towers[0].image_size
