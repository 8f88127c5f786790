"""Pixels: every encoding to RGB, and every image that cannot be one refused before a pixel is touched."""

import array
from types import SimpleNamespace

import numpy as np
import pytest

from spec_vla_ros.errors import ImageError
from spec_vla_ros.image_messages import LAYOUTS, check_compressed, check_image, rgb_from_compressed, rgb_from_image

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def message(pixels, name, padding=0, bigendian=False, **fields):
    """What a driver would publish: (H, W[, C]) pixels with ``padding`` bytes at the end of each row."""
    height, width = pixels.shape[:2]
    order = pixels.dtype.newbyteorder(">" if bigendian else "<")
    rows = np.ascontiguousarray(pixels.astype(order)).view(np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    values = {
        "encoding": name,
        "height": height,
        "width": width,
        "step": padded.shape[1],
        "is_bigendian": int(bigendian),
        "data": array.array("B", padded.tobytes()),
    }
    return SimpleNamespace(**{**values, **fields})


def as_encoded(rgb, encoding):
    """``rgb`` in the channel order of ``encoding``, alpha filled with noise."""
    order = encoding.rstrip("0123456789")
    alpha = RNG.integers(0, 256, rgb.shape[:2], dtype=np.uint8)
    planes = {"r": rgb[..., 0], "g": rgb[..., 1], "b": rgb[..., 2], "a": alpha}
    return np.stack([planes[channel] for channel in order], axis=-1)


@pytest.mark.parametrize("padding", [0, 1, 5, 64])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colour_orders_and_padded_rows(encoding, padding):
    rgb = rgb_from_image(message(as_encoded(RGB, encoding), encoding, padding))
    np.testing.assert_array_equal(rgb, RGB)
    assert rgb.flags.c_contiguous
    assert rgb.dtype == np.uint8


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16"])
def test_sixteen_bit_colour_in_both_byte_orders(encoding, bigendian):
    deep = as_encoded(RGB, encoding).astype(np.uint16) * 256 + 37
    np.testing.assert_array_equal(rgb_from_image(message(deep, encoding, 4, bigendian)), RGB)


@pytest.mark.parametrize(("encoding", "order"), [("8UC3", "bgr8"), ("8UC4", "bgra8")])
def test_opencv_names_mean_opencv_order(encoding, order):
    np.testing.assert_array_equal(rgb_from_image(message(as_encoded(RGB, order), encoding)), RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "mono16"])
def test_grey_becomes_three_equal_channels(encoding):
    grey = RGB[..., 0]
    sent = grey.astype(np.uint16) * 256 + 255 if encoding == "mono16" else grey
    np.testing.assert_array_equal(rgb_from_image(message(sent, encoding, 3)), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_keep_red_red(pattern, bits):
    pytest.importorskip("cv2")
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array(
        [[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]], dtype=np.uint8
    )
    mosaic = np.tile(tile, (8, 8))
    sent = mosaic.astype(np.uint16) * 256 if bits == 16 else mosaic
    rgb = rgb_from_image(message(sent, f"bayer_{pattern}{bits}"))
    np.testing.assert_allclose(rgb[4:-4, 4:-4].reshape(-1, 3).mean(0), [200, 100, 50], atol=1)


@pytest.mark.parametrize(("encoding", "luma"), [("uyvy", 1), ("yuv422", 1), ("yuyv", 0), ("yuv422_yuy2", 0)])
def test_yuv(encoding, luma):
    pytest.importorskip("cv2")
    pixels = np.full((4, 8, 2), 128, dtype=np.uint8)
    pixels[..., luma] = 235  # white
    assert (rgb_from_image(message(pixels, encoding)) >= 250).all()
    pixels[..., 1 - luma] = np.tile([90, 240], 4)  # little blue, much red
    pixels[..., luma] = 81
    red, green, blue = rgb_from_image(message(pixels, encoding)).reshape(-1, 3).mean(0)
    assert red > 240
    assert green < 15
    assert blue < 15


def test_the_last_row_may_come_without_its_padding():
    whole = message(RGB, "rgb8", 7)
    whole.data = whole.data[:-7]
    np.testing.assert_array_equal(rgb_from_image(whole), RGB)


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: np.frombuffer(bytes(data), np.uint8), memoryview])
def test_any_buffer_will_do(kind):
    sent = message(RGB, "rgb8")
    sent.data = kind(sent.data)
    np.testing.assert_array_equal(rgb_from_image(sent), RGB)


def test_the_result_does_not_share_memory_with_the_message():
    sent = message(RGB, "rgb8")
    rgb = rgb_from_image(sent)
    sent.data[0] ^= 255
    np.testing.assert_array_equal(rgb, RGB)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"encoding": "h264"}, "h264"),
        ({"encoding": "RGB8"}, "RGB8"),
        ({"encoding": ""}, "supported: "),
        ({"encoding": "16UC1"}, "depth"),
        ({"encoding": "32FC1"}, "depth"),
        ({"height": 0}, "empty"),
        ({"width": 0}, "empty"),
        ({"width": 9}, "step is 24 bytes"),
        ({"step": 0}, "step"),
        ({"step": 25}, "truncated"),
        ({"step": 2**32 - 1}, "truncated"),
        ({"height": 7}, "truncated"),
        ({"data": array.array("B")}, "truncated: 0 bytes"),
        ({"width": 10**9}, "at most"),
        ({"height": 2**31}, "at most"),
        ({"encoding": "rgb16"}, "step"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(fields, reason):
    sent = message(RGB, "rgb8", **fields)
    for function in (check_image, rgb_from_image):
        with pytest.raises(ImageError, match=reason):
            function(sent)


@pytest.mark.parametrize(("encoding", "shape"), [("bayer_rggb8", (5, 8)), ("bayer_rggb8", (6, 7)), ("yuyv", (4, 7, 2))])
def test_odd_sizes_of_subsampled_encodings_are_refused(encoding, shape):
    pytest.importorskip("cv2")
    with pytest.raises(ImageError, match="even"):
        rgb_from_image(message(np.zeros(shape, dtype=np.uint8), encoding))


def test_every_refusal_lists_what_would_be_accepted():
    with pytest.raises(ImageError) as caught:
        check_image(message(RGB, "nv12"))
    assert all(encoding in str(caught.value) for encoding in LAYOUTS)


def test_compressed_png_is_exact_and_jpeg_close():
    cv2 = pytest.importorskip("cv2")
    smooth = np.full((32, 32, 3), (200, 90, 20), dtype=np.uint8)
    for suffix, tolerance in ((".png", 0), (".jpg", 4)):
        data = cv2.imencode(suffix, smooth[..., ::-1])[1].tobytes()
        rgb = rgb_from_compressed(SimpleNamespace(format="rgb8; jpeg compressed bgr8", data=array.array("B", data)))
        np.testing.assert_allclose(rgb.astype(int), smooth, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "data"), [("jpeg", b""), ("jpeg", b"not a picture"), ("16UC1; compressedDepth png", b"x")]
)
def test_a_broken_compressed_image_is_refused(kind, data):
    pytest.importorskip("cv2")
    with pytest.raises(ImageError):
        rgb_from_compressed(SimpleNamespace(format=kind, data=array.array("B", data)))


def compressed(form, data):
    return SimpleNamespace(format=form, data=array.array("B", bytes(data)))


def encoded(pixels, suffix=".png"):
    """A file of what OpenCV takes for BGR, or for grey."""
    return pytest.importorskip("cv2").imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize(
    "form", ["16UC1; png compressed", "32FC1; png compressed 32FC1", "16UC1;png", "32FC1", "16SC1; "]
)
def test_a_compressed_depth_image_is_refused_by_name(form):
    """It drove the arm as a dark grey picture."""
    depth = np.full((8, 8), 1200, dtype=np.uint16)
    for function in (check_compressed, rgb_from_compressed):
        with pytest.raises(ImageError, match=f"{form.strip()}.*: a depth image is not a picture"):
            function(compressed(form, encoded(depth)))


@pytest.mark.parametrize("form", ["png", "", "tiff"])
def test_grey_of_sixteen_bits_is_a_picture_only_where_it_says_so(form):
    grey = np.full((8, 8), 200 * 256 + 7, dtype=np.uint16)
    with pytest.raises(ImageError, match="may be a depth image"):
        check_compressed(compressed(form, encoded(grey)))
    assert (rgb_from_compressed(compressed("mono16; png compressed mono16", encoded(grey))) == 200).all()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_compressed_bayer_image_is_demosaiced(pattern, suffix):
    """It was shown to the model as a grey chessboard."""
    colour = {"r": 200, "g": 100, "b": 50}
    mosaic = np.tile(np.array([colour[letter] for letter in pattern], dtype=np.uint8).reshape(2, 2), (8, 8))
    kind = {".png": "png", ".jpg": "jpeg"}[suffix]
    sent = compressed(f"bayer_{pattern}8; {kind} compressed ", encoded(mosaic, suffix))
    rgb = rgb_from_compressed(sent)
    np.testing.assert_allclose(rgb[4:-4, 4:-4].reshape(-1, 3).mean(0), [200, 100, 50], atol=2)
    deep = compressed(f"bayer_{pattern}16; png compressed ", encoded(mosaic.astype(np.uint16) * 256))
    np.testing.assert_allclose(rgb_from_compressed(deep)[4:-4, 4:-4].reshape(-1, 3).mean(0), [200, 100, 50], atol=1)


def test_a_bayer_camera_whose_driver_has_demosaiced_is_not_demosaiced_again():
    sent = compressed("bayer_rggb8; png compressed bgr8", encoded(RGB[..., ::-1]))
    np.testing.assert_array_equal(rgb_from_compressed(sent), RGB)


@pytest.mark.parametrize(
    "form", ["rgb8; png compressed rgb8", "bgr8; png compressed rgb8", "rgb8;png compressed  rgb8"]
)
def test_a_stated_channel_order_is_honoured(form):
    """As compressed_image_transport reads it: the encoder was handed red where it takes blue."""
    np.testing.assert_array_equal(rgb_from_compressed(compressed(form, encoded(RGB))), RGB)


@pytest.mark.parametrize(
    "form", ["rgb8; png compressed bgr8", "bgr8; png compressed bgr8", "png", "rgb8", "", "rgb8; png"]
)
def test_without_a_statement_the_file_is_what_its_standard_says(form):
    np.testing.assert_array_equal(rgb_from_compressed(compressed(form, encoded(RGB[..., ::-1]))), RGB)


@pytest.mark.parametrize("padding", [bytes(65), bytes(5000), b"\xff" * 300])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_padding_behind_the_end_of_a_picture_is_accepted(suffix, padding):
    """Buffers of one size, as V4L2 has them; more than 64 bytes were called truncated."""
    whole = encoded(RGB, suffix)
    plain = rgb_from_compressed(compressed(suffix[1:], whole))
    np.testing.assert_array_equal(rgb_from_compressed(compressed(suffix[1:], whole + padding)), plain)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_was_cut_off_is_refused_padded_or_not(suffix):
    whole = encoded(np.repeat(RGB, 20, axis=0), suffix)
    last = {".jpg": 1, ".png": 6}[suffix]
    for cut in (3, 20, len(whole) // 2, len(whole) - last):
        for padding in (b"", bytes(500)):
            with pytest.raises(ImageError, match="truncated"):
                check_compressed(compressed(suffix[1:], whole[:cut] + padding))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture():
    whole = encoded(np.repeat(RGB, 20, axis=0), ".jpg")
    thumbnail = encoded(RGB, ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    inside = whole[:2] + b"\xff" + segment + whole[2:]  # a fill byte, too
    check_compressed(compressed("jpeg", inside))
    with pytest.raises(ImageError, match="truncated"):
        check_compressed(compressed("jpeg", inside[: len(inside) // 2 + len(segment) // 2]))
