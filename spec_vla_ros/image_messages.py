"""Camera messages to RGB, whoever made them: a driver, or a recording. No ROS; cv_bridge is used where ROS 2 has it
(:mod:`.bridge`).

OpenCV is used where it is the right tool (Bayer, YUV, JPEG, PNG); an environment without it still converts the plain
encodings.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bridge import cv_bridge, rgb_by_bridge
from .errors import ImageError
from .foreign_text import shortened

MAX_SIDE = 16384  # px; a larger image is a corrupt header


@dataclass(frozen=True)
class _Layout:
    """How an encoding lies in memory. ``order``: positions of R, G, B among the channels, or the name of a decoder."""

    dtype: str
    channels: int
    order: tuple[int, int, int] | str


def _layouts() -> dict[str, _Layout]:
    table = {"mono8": _Layout("u1", 1, (0, 0, 0)), "mono16": _Layout("u2", 1, (0, 0, 0))}
    for name, order in {"rgb": (0, 1, 2), "bgr": (2, 1, 0), "rgba": (0, 1, 2), "bgra": (2, 1, 0)}.items():
        table[f"{name}8"] = _Layout("u1", len(name), order)
        table[f"{name}16"] = _Layout("u2", len(name), order)
    table["8UC1"] = table["mono8"]
    table["8UC3"], table["8UC4"] = table["bgr8"], table["bgra8"]  # OpenCV's order, as drivers without names use it
    # OpenCV names a pattern by the second row and column: rggb is its BayerBG.
    for pattern, opencv in {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}.items():
        table[f"bayer_{pattern}8"] = _Layout("u1", 1, f"COLOR_Bayer{opencv}2RGB")
        table[f"bayer_{pattern}16"] = _Layout("u2", 1, f"COLOR_Bayer{opencv}2RGB")
    for names, code in {("uyvy", "yuv422"): "UYVY", ("yuyv", "yuv422_yuy2"): "YUY2"}.items():
        for name in names:
            table[name] = _Layout("u1", 2, f"COLOR_YUV2RGB_{code}")
    return table


LAYOUTS = _layouts()


def prepare() -> None:
    """Import what a conversion may need. An import at the first image stops the stream for up to 0.3 s."""
    cv_bridge()
    with contextlib.suppress(ImageError):
        _opencv("images")


def check_image(message: Any) -> _Layout:
    """The layout of a sensor_msgs/Image, after checking everything that can be checked without touching pixels.

    Raises :class:`ImageError` for an unsupported encoding, an empty image, a step or a length that cannot be.
    """
    layout = LAYOUTS.get(message.encoding)
    if layout is None:
        hint = ""
        if re.fullmatch(r"(16UC1|32FC1|64FC1)", message.encoding):
            hint = " (a depth image is not a picture)"
        raise ImageError(
            f"unsupported encoding {shortened(message.encoding)}{hint}; supported: {', '.join(sorted(LAYOUTS))}"
        )
    height, width, step, length = message.height, message.width, message.step, len(message.data)
    if height == 0 or width == 0:
        raise ImageError(f"the image is empty: {width} x {height}")
    if max(height, width) > MAX_SIDE:
        raise ImageError(f"the image is {width} x {height} px, at most {MAX_SIDE} are accepted")
    row = width * layout.channels * np.dtype(layout.dtype).itemsize
    if step < row:
        raise ImageError(f"step is {step} bytes, a row of {width} px {message.encoding} has {row}")
    if length < step * (height - 1) + row:  # the padding of the last row may be missing
        raise ImageError(f"truncated: {length} bytes of data, {height} rows of {step} bytes need {step * height}")
    return layout


def rgb_from_image(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB, contiguous, of a sensor_msgs/Image. Raises :class:`ImageError`."""
    layout = check_image(message)
    if (converted := rgb_by_bridge(message)) is not None:
        return converted
    dtype = np.dtype(layout.dtype).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = message.height, message.width, message.step
    row = width * layout.channels * dtype.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(height, width, layout.channels)
    if isinstance(layout.order, str):
        return _by_opencv(layout.order, pixels)
    return np.ascontiguousarray(_to_8_bit(pixels)[..., list(layout.order)])


def check_compressed(message: Any) -> None:
    """Check what can be checked of a sensor_msgs/CompressedImage without decoding it. Raises :class:`ImageError`.

    OpenCV decodes a cut-off JPEG to a picture that is grey from the cut on, without an error; so its end is looked at.
    """
    if "compressedDepth" in message.format:
        raise ImageError(f"format {shortened(message.format)}: a depth image is not a picture")
    data = message.data
    if not len(data):
        raise ImageError(f"an empty image of format {shortened(message.format)}")
    start, end = bytes(data[:4]), bytes(data[-64:])
    whole = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}.get(start[:2])
    if whole is not None and whole not in end:  # a driver may pad the end
        raise ImageError(
            f"truncated: {len(data)} bytes of format {shortened(message.format)} without the end of the picture"
        )


def rgb_from_compressed(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a sensor_msgs/CompressedImage (JPEG or PNG). Raises :class:`ImageError`."""
    check_compressed(message)
    cv2 = _opencv("compressed images")
    data = np.frombuffer(message.data, dtype=np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise ImageError(f"cannot decode {data.size} bytes of format {shortened(message.format)}")
    return np.ascontiguousarray(picture[..., ::-1])


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype.itemsize == 1 else (pixels >> 8).astype(np.uint8)


def _by_opencv(code: str, pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    if width % 2 or ("Bayer" in code and height % 2):
        raise ImageError(f"{width} x {height} px: this encoding needs even sizes")
    cv2 = _opencv("Bayer and YUV images")
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return _to_8_bit(cv2.cvtColor(native, getattr(cv2, code)))


def _opencv(purpose: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ImageError(f"{purpose} need OpenCV, which is not installed (opencv-python-headless)") from error
    return cv2
