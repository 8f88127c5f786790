"""The film: the same episodes side by side, one column per decoder, made from the recording after the run.

Under each picture stand the seven tokens of the action that the arm executes at that moment, coloured by who proposed
them, and what the action cost.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .summary import ActionRecord, EpisodeRecord, Setting

FPS = 12
LONGEST = 7.0  # s of an episode that are shown; a failure goes on until its time is up, which is dull
SIDE = 448  # px, twice the camera's
MARGIN, HEAD, FOOT = 16, 76, 132  # px
HOLD = 1.0  # s that the end of an episode stays
NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "grip")
DARK, LIGHT, DIM = (24, 26, 31), (236, 238, 242), (150, 156, 168)
VERIFIER = (88, 96, 112)
DRAFTED = ((64, 160, 92), (38, 150, 170), (176, 122, 40), (150, 96, 180))  # accepted drafts, one colour per drafter
GOOD, BAD = (64, 160, 92), (196, 72, 64)


@dataclass(frozen=True)
class Clip:
    """One episode of one row. ``images``: (ns received, (H, W, 3) uint8 RGB) in order. ``mean``: passes of the row."""

    setting: Setting
    episode: EpisodeRecord
    images: Sequence[tuple[int, np.ndarray]]
    actions: Sequence[ActionRecord]
    mean: float

    @property
    def seconds(self) -> float:
        """Length without the hold."""
        return (self.episode.ended_ns - self.episode.began_ns) * 1e-9


def fonts() -> tuple[Any, Any, Any]:
    """A large, a usual and a small one."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    folder = Path(get_data_path()) / "fonts" / "ttf"
    names = (("DejaVuSans-Bold.ttf", 22), ("DejaVuSans.ttf", 16), ("DejaVuSans.ttf", 12))
    return tuple(ImageFont.truetype(folder / name, size) for name, size in names)


class Painter:
    """Draws frames of ``columns`` clips beside each other."""

    def __init__(self, columns: int) -> None:
        from PIL import Image, ImageDraw

        self._image, self._draw = Image, ImageDraw
        self._big, self._text, self._small = fonts()
        self.size = (columns * (SIDE + MARGIN) + MARGIN, HEAD + SIDE + FOOT)  # both even, as encoders want

    def frame(self, clips: Sequence[Clip], seconds: float) -> np.ndarray:
        """RGB frame (H, W, 3) at ``seconds`` after the beginning of the episodes."""
        canvas = self._image.new("RGB", self.size, DARK)
        draw = self._draw.Draw(canvas)
        draw.text((MARGIN, 10), f"“{clips[0].episode.instruction}”", LIGHT, self._big)
        for column, clip in enumerate(clips):
            self._column(canvas, draw, clip, MARGIN + column * (SIDE + MARGIN), seconds)
        return np.asarray(canvas)

    def _column(self, canvas, draw, clip: Clip, left: int, seconds: float) -> None:
        over = seconds >= clip.seconds
        moment = clip.episode.began_ns + round(min(seconds, clip.seconds) * 1e9)
        draw.text((left, 46), clip.setting.title, LIGHT, self._text)
        elapsed = f"{min(seconds, clip.episode.elapsed):.1f} s"
        draw.text((left + SIDE, 46), elapsed, DIM, self._text, anchor="ra")
        image = _latest(clip.images, moment)
        if image is not None:
            picture = self._image.fromarray(image[1]).resize((SIDE, SIDE), self._image.Resampling.BICUBIC)
            canvas.paste(picture, (left, HEAD))
        if over:
            text, color = ("SUCCESS", GOOD) if clip.episode.success else ("FAILED", BAD)
            draw.rounded_rectangle((left + 12, HEAD + 12, left + 140, HEAD + 44), 6, color)
            draw.text((left + 76, HEAD + 28), text, LIGHT, self._text, anchor="mm")
        times = [action.received_ns for action in clip.actions]
        index = bisect.bisect_right(times, moment) - 1
        if index >= 0:
            self._action(draw, clip, index, left)

    def _action(self, draw, clip: Clip, index: int, left: int) -> None:
        action, top = clip.actions[index], HEAD + SIDE + 10
        width = (SIDE - 6 * 6) / 7
        for i, source in enumerate(action.token_source[:7]):
            x = left + i * (width + 6)
            draw.rounded_rectangle((x, top, x + width, top + 42), 6, color_of(source, clip.setting))
            draw.text((x + width / 2, top + 14), NAMES[i], LIGHT, self._text, anchor="mm")
            draw.text((x + width / 2, top + 32), source or "-", LIGHT, self._small, anchor="mm")
        passes = f"{action.passes} pass{'es' if action.passes > 1 else ''}"
        draw.text((left, top + 54), passes, LIGHT, self._big)
        for i in range(action.passes):
            draw.rounded_rectangle((left + 128 + 20 * i, top + 58, left + 142 + 20 * i, top + 78), 3, DIM)
        draw.text((left + SIDE, top + 58), f"{action.inference_ms:.0f} ms", LIGHT, self._text, anchor="ra")
        note = f"action {index + 1};  {clip.mean:.2f} passes on average over all episodes of this decoder"
        draw.text((left, top + 90), note, DIM, self._small)


def color_of(source: str, setting: Setting) -> tuple[int, int, int]:
    """Grey for the verifier's own tokens, a colour per drafter for accepted ones."""
    if source in setting.drafters:
        return DRAFTED[setting.drafters.index(source) % len(DRAFTED)]
    return VERIFIER


def frames(scenes: Sequence[Sequence[Clip]]) -> Iterator[np.ndarray]:
    """All frames of the film: scene after scene, each as long as its longest clip and a moment more."""
    painter = Painter(max(len(clips) for clips in scenes))
    for clips in scenes:
        length = min(LONGEST, max(clip.seconds for clip in clips)) + HOLD
        for i in range(round(length * FPS)):
            yield painter.frame(clips, i / FPS)


def write_film(scenes: Sequence[Sequence[Clip]], folder: Path) -> Path | None:
    """Write ``folder/demo.mp4`` (see :func:`encode`) and ``frame.png``; returns the film, None without scenes."""
    from PIL import Image

    if not scenes:
        return None
    painter = Painter(max(len(clips) for clips in scenes))
    clips = next((clips for clips in scenes if all(clip.episode.success for clip in clips)), scenes[0])
    Image.fromarray(painter.frame(clips, 0.6 * min(clip.seconds for clip in clips))).save(folder / "frame.png")
    return encode(lambda: frames(scenes), folder, "demo", painter.size, FPS)


def encode(
    pictures: Callable[[], Iterable[np.ndarray]], folder: Path, name: str, size: tuple[int, int], fps: int
) -> Path:
    """Write ``folder/name.mp4`` of frames (H, W, 3) RGB, or a gif where OpenCV has no encoder that works.

    ``pictures`` is called once per attempt; a file counts only if it reads back with every frame. ``size``: width,
    height, px, both even.
    """
    from PIL import Image

    for codec in ("avc1", "vp09", "mp4v"):  # what browsers play first, what every OpenCV writes last
        path = folder / f"{name}.mp4"
        if _encode(pictures(), path, codec, size, fps):
            return path
        path.unlink(missing_ok=True)
    few = [Image.fromarray(frame).quantize(64) for i, frame in enumerate(pictures()) if i % 2 == 0]
    path = folder / f"{name}.gif"
    few[0].save(path, save_all=True, append_images=few[1:], duration=2000 // fps, loop=0)
    return path


def _encode(pictures: Iterable[np.ndarray], path: Path, codec: str, size: tuple[int, int], fps: int) -> bool:
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # an encoder that is missing is no news
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    try:
        if not writer.isOpened():
            return False
        written = 0
        for frame in pictures:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
            written += 1
    finally:
        writer.release()
    reader, read = cv2.VideoCapture(str(path)), 0
    while reader.grab():
        read += 1
    reader.release()
    return read == written


def _latest(images: Sequence[tuple[int, np.ndarray]], moment: int) -> tuple[int, np.ndarray] | None:
    index = bisect.bisect_right([ns for ns, _ in images], moment) - 1
    return images[max(index, 0)] if images else None
