"""The image pipeline beyond what the parity vectors cover: refusals, crops, orders."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from spec_vla_ros.errors import ImageError
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.image import CROP_SIDE, ImageTransform, crop_centre

CONFIG = dataclasses.replace(
    example_config(), towers=tuple(dataclasses.replace(t, image_size=224) for t in example_config().towers)
)


def noise(height, width, seed=0):
    """Random picture."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        [[[0, 0, 0]]],
        None,
    ],
    ids=lambda image: f"{getattr(image, 'dtype', type(image).__name__)}{getattr(image, 'shape', '')}",
)
def test_anything_but_rgb_bytes_is_refused(image):
    with pytest.raises(ImageError):
        ImageTransform(CONFIG)(image)


def test_an_image_of_the_right_size_is_only_normalised():
    image = noise(224, 224)
    pixels = ImageTransform(CONFIG)(image)
    assert pixels.shape == (6, 224, 224)
    assert pixels.dtype == torch.float32
    unit = image.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(pixels[3:], (unit - 0.5) / 0.5, atol=1e-6)
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    np.testing.assert_allclose(pixels[:3], (unit - mean) / std, atol=1e-6)


def test_views_and_read_only_arrays_are_fine():
    image = noise(100, 120)
    image.flags.writeable = False
    upside_down = image[::-1, ::-1]
    expected = ImageTransform(CONFIG)(upside_down.copy())
    assert torch.equal(ImageTransform(CONFIG)(upside_down), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (333, 2), (224, 224), (101, 100)])
@pytest.mark.parametrize("strategy", ["resize-naive", "letterbox", "resize-crop"])
def test_every_size_gives_the_model_size(size, strategy):
    transform = ImageTransform(dataclasses.replace(CONFIG, image_resize_strategy=strategy))
    assert transform(noise(*size)).shape == (6, 224, 224)


def test_letterbox_pads_with_the_last_towers_mean():
    transform = ImageTransform(dataclasses.replace(CONFIG, image_resize_strategy="letterbox"))
    pixels = transform(np.full((112, 224, 3), 255, np.uint8))
    assert pixels[3, 0, 0] == pytest.approx((127 / 255 - 0.5) / 0.5)
    assert pixels[3, 112, 112] == pytest.approx(1.0)


def test_the_crop_keeps_the_centre_at_the_square_root_of_the_area():
    # A ramp shows where samples are taken: the ends lie half of (1 - sqrt 0.9) inside.
    ramp = np.repeat(np.linspace(0, 255, 1001).round().astype(np.uint8)[None, :, None], 3, axis=2).repeat(5, axis=0)
    row = crop_centre(ramp, 224)[2, :, 0].astype(float)
    assert row[0] == pytest.approx(255 * (1 - CROP_SIDE) / 2, abs=1.5)
    assert row[-1] == pytest.approx(255 * (1 + CROP_SIDE) / 2, abs=1.5)
    np.testing.assert_allclose(np.diff(row, n=2), 0, atol=2)


def test_the_crop_of_a_plain_image_is_plain():
    for level in (0, 1, 127, 128, 254, 255):
        assert (crop_centre(np.full((60, 80, 3), level, np.uint8), 56) == level).all()


def test_options_apply_in_the_order_of_the_training_data():
    image = noise(300, 200)
    small = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.LANCZOS))
    expected = ImageTransform(CONFIG)(crop_centre(small, 224))
    assert torch.equal(ImageTransform(CONFIG, centre_crop=True, lanczos_first=True)(image), expected)
