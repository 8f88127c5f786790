"""From a picture to model pixels, beyond what the parity vectors cover: refusals, views, normalisation, padding."""

import dataclasses

import numpy as np
import pytest
import torch

from spec_vla_ros.errors import ImageError
from spec_vla_ros.openvla.device_image import DeviceTransform
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.image import ImageTransform
from spec_vla_ros.openvla.picture import IMAGE_RESIZES, PROCESSOR

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


@pytest.mark.parametrize("image_resize", IMAGE_RESIZES)
def test_an_image_of_the_right_size_is_only_normalised(image_resize):
    image = noise(224, 224)
    pixels = ImageTransform(CONFIG, image_resize=image_resize)(image)
    assert pixels.shape == (6, 224, 224)
    assert pixels.dtype == torch.float32
    unit = image.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(pixels[3:], (unit - 0.5) / 0.5, atol=1e-6)
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    np.testing.assert_allclose(pixels[:3], (unit - mean) / std, atol=1e-6)


@pytest.mark.parametrize("image_resize", IMAGE_RESIZES)
def test_views_and_read_only_arrays_are_fine(image_resize):
    image = noise(100, 120)
    image.flags.writeable = False
    upside_down = image[::-1, ::-1]
    transform = ImageTransform(CONFIG, image_resize=image_resize)
    assert torch.equal(transform(upside_down), transform(upside_down.copy()))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (333, 2), (224, 224), (101, 100)])
@pytest.mark.parametrize("strategy", ["resize-naive", "letterbox", "resize-crop"])
def test_every_size_gives_the_model_size(size, strategy):
    config = dataclasses.replace(CONFIG, image_resize_strategy=strategy)
    for image_resize in IMAGE_RESIZES:
        assert ImageTransform(config, image_resize=image_resize)(noise(*size)).shape == (6, 224, 224)


def test_letterbox_pads_with_the_last_towers_mean():
    config = dataclasses.replace(CONFIG, image_resize_strategy="letterbox", image_resize=PROCESSOR)
    pixels = ImageTransform(config)(np.full((112, 224, 3), 255, np.uint8))
    assert pixels[3, 0, 0] == pytest.approx((127 / 255 - 0.5) / 0.5)
    assert pixels[3, 112, 112] == pytest.approx(1.0)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("image_resize", IMAGE_RESIZES)
@pytest.mark.parametrize("size", [(480, 640), (224, 224), (100, 1000), (224, 640), (3, 2)])
def test_a_device_makes_the_same_picture_but_for_single_levels(size, image_resize, crop):
    """Here on the CPU, where sums come in yet another order. Twice, so that buffers are used again."""
    config = dataclasses.replace(CONFIG, image_resize_strategy="resize-naive")
    transform = ImageTransform(config, crop, image_resize)
    there, levels = DeviceTransform(transform, torch.device("cpu")), 255 * transform.stds
    for seed in range(2):
        image, out = noise(*size, seed)[::-1], torch.full((1, 6, 224, 224), float("nan"))
        there(image, out)
        apart = ((out[0] - transform(image)).unflatten(0, (2, 3)) * levels).abs()
        assert apart.max() < 1.01, "one level at most"
        assert (apart > 0.01).float().mean() < 1e-4


def test_a_device_refuses_what_is_no_image_and_leaves_padding_to_the_host():
    naive = ImageTransform(dataclasses.replace(CONFIG, image_resize_strategy="resize-naive"), image_resize=PROCESSOR)
    assert DeviceTransform.can(naive.rule)
    with pytest.raises(ImageError):
        DeviceTransform(naive, torch.device("cpu"))(np.zeros((4, 4), np.uint8), torch.zeros(1, 6, 224, 224))
    letterbox = ImageTransform(dataclasses.replace(CONFIG, image_resize_strategy="letterbox"), image_resize=PROCESSOR)
    assert not DeviceTransform.can(letterbox.rule)
