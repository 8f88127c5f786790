"""Our pipeline against the published reference implementation, stage by stage.

``test/data/parity`` holds two small random checkpoints that the reference's own classes wrote (bfloat16; towers and
language model scaled down, everything else as published, dead blocks and pooling head included), and what those
classes computed from them in float32: pixels, tower features, projected patches, logits, greedy tokens, actions. Their
image processor saw the pictures as they are (``image_resize`` processor).
Reference stack: transformers 4.40.1, timm 0.9.10, torchvision 0.28. Two things differ from a published folder: the
sizes are stated under ``vision_towers``, and the small vocabulary's own "▁" stood in for the fixed id 29871.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.picture import PROCESSOR
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

FOLDER = Path(__file__).parents[1] / "data" / "parity"
CASES = range(3)


@pytest.fixture(scope="module", params=["openvla", "openvla_v01"])
def reference(request):
    """Loaded checkpoint, expected tensors, and the cases."""
    folder = FOLDER / request.param
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    loaded = load_model(folder, unnorm_key="second", image_resize=PROCESSOR)
    return loaded, load_file(folder / "expected.safetensors"), cases


def picture(height, width):
    """The deterministic test image, sharp edges everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [(3 * x + 2 * y) % 256, (x * y // 11 + 40) % 256, (255 - (x * x + y * y) // 37) % 256]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", ["resize-naive", "letterbox", "resize-crop"])
def test_pixels_are_equal_to_the_last_bit(reference, case, strategy):
    loaded, expected, cases = reference
    config = OpenVLAConfig(loaded.config.towers, loaded.config.llama, image_resize_strategy=strategy)
    pixels = ImageTransform(config, image_resize=PROCESSOR)(picture(cases[case]["height"], cases[case]["width"]))
    assert torch.equal(pixels[:, 5::24, 5::24], expected[f"{case}.pixels.{strategy}"])


@pytest.mark.parametrize("case", CASES)
def test_prompt_ids(reference, case):
    loaded, _, cases = reference
    assert loaded.prompt.ids(cases[case]["instruction"]) == cases[case]["prompt_ids"]


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_features_patches_and_logits(reference, case):
    loaded, expected, cases = reference
    pixels = loaded.transform(picture(cases[case]["height"], cases[case]["width"]))[None]
    features = loaded.model.vision_backbone(pixels)
    patches = loaded.model.projector(features)
    logits = loaded.model(pixels, torch.tensor([cases[case]["prompt_ids"]]))
    for name, ours in (("features", features[0, ::8]), ("projected", patches[0, ::8]), ("logits", logits[0, -4:])):
        torch.testing.assert_close(ours, expected[f"{case}.{name}"], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("decoder", ["autoregressive", "speculative"])
def test_greedy_tokens_and_actions(reference, case, decoder):
    loaded, _, cases = reference
    policy = OpenVLAPolicy(loaded)
    settings = DecodeSettings(decoder=decoder, acceptance_radius=0)
    image = picture(cases[case]["height"], cases[case]["width"])
    for _ in range(2):  # the second time speculative decoding drafts the first answer
        result = policy.infer(image, cases[case]["instruction"], settings)
        assert result.tokens.tolist() == cases[case]["tokens"]
        np.testing.assert_allclose(result.values, cases[case]["action"], rtol=0, atol=1e-12)
