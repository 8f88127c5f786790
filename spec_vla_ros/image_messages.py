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
NO_PICTURE = "a depth image is not a picture"
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"


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
        hint = f" ({NO_PICTURE})" if is_depth(message.encoding) else ""
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


def is_depth(encoding: str) -> bool:
    """Whether an encoding is of distances: OpenCV's types of one channel, except that of 8 bits without a sign."""
    return encoding != "8UC1" and re.fullmatch(r"(8|16|32|64)[USF]C1", encoding) is not None


def stated_encoding(form: str) -> str:
    """What the format of a CompressedImage says of the image before it was compressed; "" if nothing.

    Transports write "rgb8; jpeg compressed bgr8", other drivers only "jpeg".
    """
    before, semicolon, _ = form.partition(";")
    return before.strip() if semicolon or before.strip() in LAYOUTS or is_depth(before.strip()) else ""


def check_compressed(message: Any) -> None:
    """Check what can be checked of a sensor_msgs/CompressedImage without decoding it. Raises :class:`ImageError`.

    OpenCV decodes a cut-off JPEG to a picture that is grey from the cut on, without an error; so its end is looked for.
    """
    if "compressedDepth" in message.format or is_depth(stated_encoding(message.format)):
        raise ImageError(f"format {shortened(message.format)}: {NO_PICTURE}")
    if not len(message.data):
        raise ImageError(f"an empty image of format {shortened(message.format)}")
    data = bytes(message.data)
    ends = {_JPEG: _jpeg_ends, _PNG[:2]: _png_ends}.get(data[:2])
    if ends is not None and not ends(data):
        raise ImageError(
            f"truncated: {len(data)} bytes of format {shortened(message.format)} without the end of the picture"
        )
    # Only a statement tells a grey picture of 16 bits from a depth image, and transports make one.
    if data.startswith(_PNG) and data[24:26] == b"\x10\x00" and not stated_encoding(message.format):
        raise ImageError(
            f"format {shortened(message.format)}: a PNG of one channel with 16 bits may be a depth image; a picture "
            "says 'mono16; png compressed'"
        )


def rgb_from_compressed(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a sensor_msgs/CompressedImage (JPEG or PNG). Raises :class:`ImageError`.

    A stated Bayer pattern is demosaiced if the file has one channel. "compressed rgb8" behind the semicolon says that
    the channels were handed to the encoder in that order, which takes the first for blue.
    """
    check_compressed(message)
    cv2 = _opencv("compressed images")
    layout = LAYOUTS.get(stated_encoding(message.format))
    mosaic = layout is not None and isinstance(layout.order, str) and "Bayer" in layout.order
    data = np.frombuffer(message.data, dtype=np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR if mosaic else cv2.IMREAD_COLOR)
    if picture is None:
        raise ImageError(f"cannot decode {data.size} bytes of format {shortened(message.format)}")
    if mosaic and picture.ndim == 2:  # else the driver has demosaiced before it compressed
        return _by_opencv(layout.order, picture[..., None])
    picture = _to_8_bit(picture)
    if re.search(r";.*compressed\s+rgb", message.format):
        return np.ascontiguousarray(picture)
    return np.ascontiguousarray(picture[..., ::-1])


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end comes after the picture has begun; drivers pad behind it, and a thumbnail before has its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        if data[at + 1] == _START_OF_SCAN:
            break
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(_END_OF_IMAGE, at) >= 0


def _png_ends(data: bytes) -> bool:
    at = len(_PNG)
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


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
