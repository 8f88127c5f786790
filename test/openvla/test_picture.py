"""The way from a camera image to the picture that a model sees.

It used to be the image processor alone. With ``centre_crop`` that samples a large image bilinearly without looking at
most of its pixels: the picture of a smooth rendered scene was 2.4 of 255 away from what models were trained and
evaluated on, that of random pixels 36 to 40, and the small model gave other actions on every image.
"""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from spec_vla_ros.errors import ConfigurationError, ImageError
from spec_vla_ros.openvla.config import EVALUATION, IMAGE_RESIZES, LANCZOS, PROCESSOR
from spec_vla_ros.openvla.example import example_config
from spec_vla_ros.openvla.picture import (
    AUTO,
    CROP_SIDE,
    PictureRule,
    crop_centre,
    jpeg_round_trip,
    lanczos,
)

SIZE = 224
CAMERAS = [(640, 480), (1280, 720), (1920, 1080), (480, 640), (720, 1280), (1080, 1920), (517, 331), (160, 121)]


def noise(height, width, seed=0):
    """Random picture."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(width, height):
    """Surfaces with shading, edges of every direction, and a sensor's noise."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    ground = np.stack([90 + 70 * np.sin(9 * x + 4 * y + c) for c in range(3)], axis=-1)
    for number, colour in enumerate([(220, 40, 30), (40, 200, 60), (30, 60, 210), (240, 240, 240), (12, 12, 12)]):
        middle, radius = (0.15 + 0.16 * number, 0.2 + 0.05 * number), 0.03 + 0.02 * number
        inside = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius**2
        ground[inside if number % 2 else (np.abs(x - middle[0]) + 0.3 * np.abs(y - middle[1]) < radius)] = colour
    grain = np.random.default_rng(0).normal(0, 2, ground.shape)
    return np.clip(np.rint(ground + grain), 0, 255).astype(np.uint8)


# -- an independent implementation, in float64 and from the definitions


def lanczos3_weights(inputs, outputs):
    """(outputs, inputs): TensorFlow's ScaleAndTranslate, kernel lanczos3, antialias; samples at pixel centres."""
    scale = inputs / outputs
    x = (np.arange(inputs)[None] + 0.5 - (np.arange(outputs)[:, None] + 0.5) * scale) / max(scale, 1.0)
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def published_resize(image, size=SIZE, between=lambda rows: rows):
    """tf.image.resize, then round, clip and cast, as the evaluations do it. ``between``: of the two passes."""
    columns, rows = (lanczos3_weights(length, size) for length in (image.shape[1], image.shape[0]))
    first = between(np.einsum("ow,hwc->hoc", columns, image.astype(np.float64), optimize=True))
    return to_bytes(np.einsum("oh,hwc->owc", rows, first, optimize=True))


def to_bytes(levels):
    """Rounded and clipped."""
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def published_crop(image, size=SIZE):
    """tf.image.crop_and_resize of the box of 90 % area, then convert_image_dtype to uint8."""
    sampled = image / 255
    for axis in (0, 1):
        length = sampled.shape[axis]
        first, last = (1 - np.sqrt(0.9)) / 2 * (length - 1), (1 + np.sqrt(0.9)) / 2 * (length - 1)
        at = first + np.arange(size) * (last - first) / (size - 1)
        sampled = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), axis, sampled)
    return np.floor(np.clip(sampled, 0, 1) * 255.5).clip(0, 255).astype(np.uint8)


def published_jpeg(image):
    """tf.image.encode_jpeg and back, by another library than ours."""
    cv2 = pytest.importorskip("cv2")
    settings = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    return cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], settings)[1], cv2.IMREAD_COLOR)[..., ::-1]


def apart(one, other):
    """Largest and mean difference of two pictures, in levels."""
    difference = np.abs(one.astype(int) - other.astype(int))
    return difference.max(), difference.mean()


@pytest.mark.parametrize(("width", "height"), CAMERAS)
@pytest.mark.parametrize("crop", [False, True])
def test_the_picture_is_that_of_the_published_evaluation(width, height, crop):
    image = scene(width, height)
    expected = published_resize(published_jpeg(image))
    expected = published_crop(expected) if crop else expected
    largest, mean = apart(PictureRule(SIZE, centre_crop=crop).picture(image), expected)
    assert largest <= 16, "in single pixels, beside edges to black or white"
    assert mean < 0.2


@pytest.mark.parametrize(("width", "height"), [*CAMERAS, (224, 300), (1, 500), (60, 40)])
def test_the_resize_is_tensorflows_but_for_the_rounding_between_its_passes(width, height):
    image = scene(width, height)
    rounded = published_resize(image, between=lambda levels: to_bytes(levels).astype(np.float64))
    assert apart(lanczos(image, SIZE), rounded)[0] <= 1
    assert apart(lanczos(image, SIZE), published_resize(image))[1] < 0.25


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1920, 1080)])
def test_what_used_to_be_done_is_far_from_it(width, height):
    """The sizes of the differences that this is about: the direct path stays, by its name."""
    image = scene(width, height)
    expected = published_crop(published_resize(published_jpeg(image)))
    old = PictureRule(SIZE, centre_crop=True, resize=PROCESSOR).picture(image)
    assert apart(old, expected)[1] > 5 * apart(PictureRule(SIZE, centre_crop=True).picture(image), expected)[1]


@pytest.mark.parametrize("crop", [False, True])
def test_fine_detail_becomes_grey_and_no_moire(crop):
    """Squares of one pixel at 1080p, which 224 px cannot show: sampled, they were stripes of black and white."""
    board = np.repeat((255 * (np.indices((1080, 1920)).sum(axis=0) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    for resize in (EVALUATION, LANCZOS):
        picture = PictureRule(SIZE, centre_crop=crop, resize=resize).picture(board)
        assert np.abs(picture.astype(float) - 127.5).max() < 3
    if crop:
        assert PictureRule(SIZE, centre_crop=True, resize=PROCESSOR).picture(board).std() > 40


# -- the rules


@pytest.mark.parametrize("strategy", ["resize-naive", "letterbox", "resize-crop"])
@pytest.mark.parametrize("resize", IMAGE_RESIZES)
@pytest.mark.parametrize("crop", [False, True])
def test_an_image_of_the_models_size_is_left_as_it_is_but_for_the_crop(strategy, resize, crop):
    image = noise(SIZE, SIZE)
    picture = PictureRule(SIZE, strategy, centre_crop=crop, resize=resize).picture(image)
    np.testing.assert_array_equal(picture, crop_centre(image, SIZE) if crop else image)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (333, 2), (101, 100), (224, 225), (16384, 3)])
@pytest.mark.parametrize("resize", IMAGE_RESIZES)
def test_every_size_gives_the_models_size(size, resize):
    for crop in (False, True):
        assert PictureRule(SIZE, centre_crop=crop, resize=resize).picture(noise(*size)).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("resize", IMAGE_RESIZES)
@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
def test_a_grey_image_stays_grey_at_its_level(resize, level):
    for crop in (False, True):
        picture = PictureRule(SIZE, centre_crop=crop, resize=resize).picture(np.full((90, 160, 3), level, np.uint8))
        assert (picture == level).all()


def test_the_steps_come_in_the_order_of_the_evaluation():
    image = noise(300, 200)
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=95, subsampling=2)
    small = np.asarray(Image.open(stored).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    expected = crop_centre(small, SIZE)
    np.testing.assert_array_equal(PictureRule(SIZE, centre_crop=True).picture(image), expected)


def test_the_strategy_of_a_checkpoint_is_the_processors_alone():
    """Training and evaluation squeeze every image into a square, whatever ``image_resize_strategy`` says."""
    image = noise(112, 224)
    for resize, count in ((EVALUATION, 1), (LANCZOS, 1), (PROCESSOR, 3)):
        pictures = {
            PictureRule(SIZE, strategy, resize=resize).picture(image).tobytes()
            for strategy in ("resize-naive", "letterbox", "resize-crop")
        }
        assert len(pictures) == count, resize


def test_auto_is_what_the_checkpoint_says_and_a_name_that_does_not_exist_is_refused():
    config = example_config()
    assert PictureRule.of(config).resize == EVALUATION, "a published checkpoint says nothing"
    trained = dataclasses.replace(config, image_resize=PROCESSOR)
    assert PictureRule.of(trained, image_resize=AUTO).resize == PROCESSOR
    assert PictureRule.of(trained, image_resize=LANCZOS).resize == LANCZOS
    with pytest.raises(ConfigurationError, match=r"image_resize is 'best'; there is auto, evaluation, lanczos, proc"):
        PictureRule.of(config, image_resize="best")


def test_an_image_that_no_jpeg_can_hold_is_refused_by_name():
    with pytest.raises(ImageError, match="70000 x 1 px cannot become a JPEG"):
        jpeg_round_trip(np.zeros((1, 70000, 3), np.uint8))


@pytest.mark.parametrize(
    ("rule", "size", "words"),
    [
        (PictureRule(224), (640, 480), "640x480 -> JPEG -> Lanczos to 224x224"),
        (PictureRule(224), (), "any size -> JPEG -> Lanczos to 224x224"),
        (PictureRule(224, centre_crop=True), (640, 480), "640x480 -> JPEG -> Lanczos to 224x224 -> centre crop 0.9"),
        (PictureRule(224, centre_crop=True), (224, 224), "224x224 -> centre crop 0.9"),
        (PictureRule(224), (224, 224), "224x224, unchanged"),
        (PictureRule(224, resize=LANCZOS), (640, 480), "640x480 -> Lanczos to 224x224"),
        (PictureRule(224, resize=PROCESSOR), (640, 480), "640x480 -> bicubic to 224x224"),
        (PictureRule(224, resize=PROCESSOR), (224, 224), "224x224, unchanged"),
        (
            PictureRule(224, "letterbox", resize=PROCESSOR),
            (640, 480),
            "640x480 -> padded to a square -> bicubic to 224x224",
        ),
        (
            PictureRule(224, "resize-crop", resize=PROCESSOR),
            (640, 480),
            "640x480 -> shorter side to 224 -> middle 224x224",
        ),
        (
            PictureRule(224, centre_crop=True, resize=PROCESSOR),
            (640, 480),
            "640x480 -> centre crop 0.9 to 224x224, not antialiased",
        ),
    ],
)
def test_the_steps_in_words(rule, size, words):
    assert rule.words(*size) == words


# -- the crop


def test_the_crop_keeps_the_centre_at_the_square_root_of_the_area():
    # A ramp shows where samples are taken: the ends lie half of (1 - sqrt 0.9) inside.
    ramp = np.repeat(np.linspace(0, 255, 1001).round().astype(np.uint8)[None, :, None], 3, axis=2).repeat(5, axis=0)
    row = crop_centre(ramp, 224)[2, :, 0].astype(float)
    assert row[0] == pytest.approx(255 * (1 - CROP_SIDE) / 2, abs=1.5)
    assert row[-1] == pytest.approx(255 * (1 + CROP_SIDE) / 2, abs=1.5)
    np.testing.assert_allclose(np.diff(row, n=2), 0, atol=2)


def cropped_as_a_whole(image, size):
    """The crop on an image that is made of numbers first, all of it."""
    unit = image.astype(np.float32) / np.float32(255)
    low = (1 - CROP_SIDE) / 2
    for axis in (0, 1):
        at = (low + np.arange(size) * CROP_SIDE / max(size - 1, 1)) * (unit.shape[axis] - 1)
        below = np.floor(at).astype(np.int64)
        above = np.minimum(below + 1, unit.shape[axis] - 1)
        weight = (at - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        unit = unit.take(below, axis) * (1 - weight) + unit.take(above, axis) * weight
    return np.minimum(np.clip(unit, 0, 1) * np.float32(255.5), 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(480, 640), (224, 224), (1, 1), (30, 900), (900, 30), (449, 449), (448, 448)])
def test_only_what_a_crop_looks_at_is_computed_and_nothing_changes(size):
    image = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    image.flags.writeable = False
    np.testing.assert_array_equal(crop_centre(image, 224), cropped_as_a_whole(image, 224))


def test_the_crop_of_a_plain_image_is_plain():
    for level in (0, 1, 127, 128, 254, 255):
        assert (crop_centre(np.full((60, 80, 3), level, np.uint8), 56) == level).all()
