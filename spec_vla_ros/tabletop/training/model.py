"""Sizes of the small model: the OpenVLA architecture, scaled until two CPU cores can train and run it."""

from __future__ import annotations

from spec_vla_ros.openvla.config import IMAGENET_MEAN, IMAGENET_STD, LlamaConfig, OpenVLAConfig, TowerConfig
from spec_vla_ros.openvla.picture import PROCESSOR

IMAGE_SIZE = 112  # px, 8 x 8 patches
STATISTICS_KEY = "tabletop"

# Decoder deep and narrow: eight layers keep the cost of a pass per row in a realistic proportion to drafting.
TABLETOP = OpenVLAConfig(
    towers=(
        TowerConfig(
            width=128, depth=6, heads=4, mlp_width=384, image_size=IMAGE_SIZE, registers=4, class_token=True,
            layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        ),
        TowerConfig(width=96, depth=3, heads=4, mlp_width=256, image_size=IMAGE_SIZE),
    ),
    llama=LlamaConfig(
        hidden_size=128, intermediate_size=352, num_hidden_layers=8, num_attention_heads=4, vocab_size=832,
        max_position_embeddings=256,
    ),
    vision_backbone_id="custom-dinosiglip-112px",
    llm_backbone_id="llama2-tabletop",
    pad_token_id=768,
    image_resize=PROCESSOR,  # so its frames were made
)  # fmt: skip
