"""From a camera image to the picture that a model sees: node, replay, training and LIBERO all ask here. No torch.

Sources, all of the repository openvla/openvla (MIT): ``resize_image`` in ``experiments/robot/bridge/bridgev2_utils.py``
(the real WidowX with its 640 x 480 camera) and in ``experiments/robot/libero/libero_utils.py`` goes through a JPEG,
resizes straight to the model's size with an antialiased Lanczos filter and rounds; ``crop_and_resize`` in
``experiments/robot/openvla_utils.py`` then cuts the centre out, where the checkpoint wants that. The data loader of the
training resizes alike (``dlimp``'s ``resize_image``, from ``prismatic/vla/datasets/rlds/obs_transforms.py``), whatever
the checkpoint's ``image_resize_strategy`` says. The processor alone is what ``vla-scripts/deploy.py`` runs.

What each step changes, and what it costs: ``spec-vla bench pictures``, docs/benchmarks.md.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from spec_vla_ros.errors import ConfigurationError, ImageError

from .config import EVALUATION, IMAGE_RESIZES, PROCESSOR, OpenVLAConfig

AUTO = "auto"  # as the checkpoint says in config.json; a published one says nothing, which means EVALUATION
BEFORE_IT_WAS_SAID = PROCESSOR  # of shards, heads and golden files that do not say it: there was nothing else
CROP_AREA = 0.9  # models trained with random crops of 90 % of the area expect that centre box
CROP_SIDE = math.sqrt(CROP_AREA)
JPEG_QUALITY = 95  # what TensorFlow's encoder takes where nothing is said, with chroma at half resolution


@dataclass(frozen=True)
class PictureRule:
    """Everything that decides how an image becomes a picture of ``size`` x ``size`` px.

    ``resize``: one of :data:`IMAGE_RESIZES`. ``strategy``: the checkpoint's ``image_resize_strategy``, which is the
    processor's. ``fill``: RGB that "letterbox" pads with. ``centre_crop``: cut the box of :data:`CROP_AREA` out.
    """

    size: int
    strategy: str = "resize-naive"
    fill: tuple[int, ...] = (127, 127, 127)
    centre_crop: bool = False
    resize: str = EVALUATION

    @staticmethod
    def of(config: OpenVLAConfig, centre_crop: bool = False, image_resize: str = AUTO) -> PictureRule:
        """Of a checkpoint; raises :class:`ConfigurationError` for an ``image_resize`` that does not exist."""
        if image_resize not in (AUTO, *IMAGE_RESIZES):
            raise ConfigurationError(f"image_resize is {image_resize!r}; there is {', '.join((AUTO, *IMAGE_RESIZES))}")
        resize = config.image_resize if image_resize == AUTO else image_resize
        # The reference pads with the mean colour of the last tower only, whatever the first one would want.
        fill = tuple(int(255 * channel) for channel in config.towers[-1].mean)
        return PictureRule(config.image_size, config.image_resize_strategy, fill, centre_crop, resize)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (S, S, 3) uint8. Raises :class:`ImageError` for anything else.

        An image of S x S counts as prepared: nothing but the crop changes it, whatever ``resize`` says.
        """
        check_image(image)
        if self.resize != PROCESSOR and image.shape[:2] != (self.size, self.size):
            image = lanczos(jpeg_round_trip(image) if self.resize == EVALUATION else image, self.size)
        if self.centre_crop:
            image = crop_centre(image, self.size)
        return np.array(self._process(Image.fromarray(np.ascontiguousarray(image))))

    def words(self, width: int = 0, height: int = 0) -> str:
        """The steps for an image of ``width`` x ``height`` px, or for any: "640x480 -> JPEG -> Lanczos to 224x224"."""
        square, steps = f"{self.size}x{self.size}", [f"{width}x{height}" if width else "any size"]
        fits = (width, height) == (self.size, self.size)
        if self.resize != PROCESSOR:
            steps += ["JPEG"] if self.resize == EVALUATION and not fits else []
            steps += [] if fits else [f"Lanczos to {square}"]
            steps += [f"centre crop {CROP_AREA}"] if self.centre_crop else []
        elif self.centre_crop:
            steps.append(f"centre crop {CROP_AREA} to {square}" + ("" if fits else ", not antialiased"))
        elif not fits:
            around = {"letterbox": ["padded to a square"], "resize-crop": [f"shorter side to {self.size}"]}
            steps += around.get(self.strategy, [])
            steps.append(f"middle {square}" if self.strategy == "resize-crop" else f"bicubic to {square}")
        return " -> ".join(steps) if len(steps) > 1 else f"{steps[0]}, unchanged"

    def _process(self, picture: Image.Image) -> Image.Image:
        """The published processor: bicubic and antialiased; nothing of it does anything at S x S."""
        if self.strategy == "resize-naive":
            return picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        if self.strategy == "letterbox":
            picture = _pad_to_square(picture, self.fill)
        return _resize_shorter_and_crop(picture, self.size)


def check_image(image: np.ndarray) -> None:
    """Raise :class:`ImageError` unless ``image`` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"expected an RGB image of shape (H, W, 3) and type uint8, got {got}")
    if 0 in image.shape:
        raise ImageError(f"the image is empty: {image.shape}")


def lanczos(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8: ``tf.image.resize(method="lanczos3", antialias=True)`` by Pillow.

    The aspect is not kept, as there. Pillow rounds and clips between its two passes as well, TensorFlow does not: less
    than 0.2 of 255 apart on average, a dozen in single pixels beside edges to black or white. One level of sensor noise
    moves actions as far, and passes in float would take twice the time.
    """
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.LANCZOS))


def jpeg_round_trip(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, stored as ``tf.image.encode_jpeg`` does where nothing is said, and read again."""
    stored = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    try:
        picture.save(stored, format="JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    except OSError as error:  # a side beyond 65 500 px
        raise ImageError(f"an image of {image.shape[1]} x {image.shape[0]} px cannot become a JPEG: {error}") from error
    return np.asarray(Image.open(stored).convert("RGB"))


def crop_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Centre box of 90 % area of (H, W, 3) uint8, sampled bilinearly at ``size`` x ``size`` corner-aligned points.

    Nothing filters before it samples: of an image that is much larger than ``size`` most pixels are never looked at,
    nor touched here.
    """
    samples = [between(length, size) for length in image.shape[:2]]
    for axis, (below, above, weight) in enumerate(samples):
        if image.shape[axis] > 2 * size:
            image, places = image.take(np.concatenate([below, above]), axis), np.arange(2 * size)
            samples[axis] = places[:size], places[size:], weight
    unit = image.astype(np.float32) / np.float32(255)
    for axis, (below, above, weight) in enumerate(samples):
        weight = weight[:, None] if axis else weight[:, None, None]
        unit = unit.take(below, axis) * (1 - weight) + unit.take(above, axis) * weight
    return np.minimum(np.clip(unit, 0, 1) * np.float32(255.5), 255).astype(np.uint8)


def between(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the ``size`` samples of a crop lie on ``length`` pixels: the pixel below each and the one above, (size,)
    int64, and the share of the latter, float32.
    """
    at = ((1 - CROP_SIDE) / 2 + np.arange(size) * CROP_SIDE / max(size - 1, 1)) * (length - 1)
    below = np.floor(at).astype(np.int64)
    return below, np.minimum(below + 1, length - 1), (at - below).astype(np.float32)


def _pad_to_square(picture: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    """Same border on both sides, rounded down: one pixel may be missing, which the crop that follows evens out."""
    width, height = picture.size
    x, y = (max(width, height) - width) // 2, (max(width, height) - height) // 2
    padded = Image.new("RGB", (width + 2 * x, height + 2 * y), fill)
    padded.paste(picture, (x, y))
    return padded


def _resize_shorter_and_crop(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    shorter = min(width, height)
    width, height = (size if side == shorter else int(size * side / shorter) for side in (width, height))
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))
