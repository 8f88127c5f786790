"""The same tasks twice, as if with a 7B model on known hardware: plain decoding that waits, and ours that does not.

Emulated, and said so wherever it is shown: the small model decodes, and each action is held back until the time has
gone by that a 7B model takes there (:mod:`spec_vla_ros.bench.pace`).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.bench.pace.drive import Camera, Driven, Moment
from spec_vla_ros.bench.pace.hardware import RTX_4090
from spec_vla_ros.bench.pace.pace import Options, Row, Runner, figures, line

from .film import BAD, DARK, DIM, GOOD, HOLD, LIGHT, MARGIN, SIDE, encode, fonts

FPS = 24
HEAD, FOOT = 104, 92  # px
THINKING = (196, 140, 40)
NAME = "race"


@dataclass
class Lane:
    """One row in one episode. ``moments``: in order of time."""

    row: Row
    driven: Driven | None = None
    moments: list[Moment] = field(default_factory=list)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.row.preset}, {self.row.pacing}"

    def at(self, seconds: float) -> Moment:
        """What is to be seen ``seconds`` after the beginning."""
        times = [moment.seconds for moment in self.moments]
        return self.moments[max(0, bisect.bisect_right(times, seconds) - 1)]


def rows(presets: Sequence[str]) -> list[Row]:
    """Plain decoding that waits, against the last of ``presets`` that does not."""
    return [
        Row("autoregressive", "blocking", "none", RTX_4090.name),
        Row(presets[-1], "steady", "catch_up", RTX_4090.name),
    ]


def race(
    model: str,
    presets: Sequence[str],
    todo: Sequence[tuple[str, int]],
    filmed: int,
    base_model: str,
    out: Path,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Drive the episodes ``todo`` (instruction, layout seed) both ways; writes the film of the first ``filmed`` and a
    picture into ``out``, says and returns the rows of figures.
    """
    runner, lanes, found = Runner(Options(model, base_model=base_model)), [], []
    for row in rows(presets):
        mine = [Lane(row) for _ in todo]
        for number, (lane, (instruction, seed)) in enumerate(zip(mine, todo, strict=True)):
            watch = lane.moments.append if number < filmed else None
            lane.driven = runner.run(row, instruction, seed, watch)
        lanes.append(mine[:filmed])
        found.append(figures(row, RTX_4090, [lane.driven for lane in mine]))
        say(line(found[-1]))
    scenes = list(zip(*lanes, strict=True))
    if scenes:
        film = write(scenes, out)
        say(f"race   {film}, picture {out / f'{NAME}.png'} (emulated: a 7B model on an {RTX_4090.name}, in real time)")
    return found


def write(scenes: Sequence[Sequence[Lane]], out: Path) -> Path:
    """Write the film and, of the moment at which the quicker one is done, the picture."""
    from PIL import Image

    painter = Painter()
    lanes = next((lanes for lanes in scenes if all(lane.driven.success for lane in lanes)), scenes[0])
    first = min(lane.driven.seconds for lane in lanes)
    Image.fromarray(painter.frame(lanes, first + 0.02)).save(out / f"{NAME}.png")

    def frames() -> Iterator[np.ndarray]:
        for lanes in scenes:
            length = max(lane.driven.seconds for lane in lanes) + HOLD
            for number in range(round(length * FPS)):
                yield painter.frame(lanes, number / FPS)

    return encode(frames, out, NAME, painter.size, FPS)


class Painter:
    """Draws both arms beside each other."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self._image, self._draw = Image, ImageDraw
        self._big, self._text, self._small = fonts()
        self._camera = Camera(SIDE)
        self.size = (2 * (SIDE + MARGIN) + MARGIN, HEAD + SIDE + FOOT)

    def frame(self, lanes: Sequence[Lane], seconds: float) -> np.ndarray:
        """RGB frame (H, W, 3) at ``seconds`` after the beginning."""
        canvas = self._image.new("RGB", self.size, DARK)
        draw = self._draw.Draw(canvas)
        draw.text((MARGIN, 10), f"“{lanes[0].driven.task.instruction}”", LIGHT, self._big)
        note = f"emulated, in real time: a small model decodes, at the pace of a 7B model on an {RTX_4090.name}"
        draw.text((MARGIN, 42), f"{note} (its stages: SpecVLA-DFLASH)", DIM, self._small)
        longest = max(lane.driven.seconds for lane in lanes)
        for column, lane in enumerate(lanes):
            self._lane(canvas, draw, lane, MARGIN + column * (SIDE + MARGIN), seconds, longest)
        return np.asarray(canvas)

    def _lane(self, canvas, draw, lane: Lane, left: int, seconds: float, longest: float) -> None:
        over, moment = seconds >= lane.driven.seconds, lane.at(min(seconds, lane.driven.seconds))
        draw.text((left, 74), lane.title, LIGHT, self._text)
        picture = self._image.fromarray(self._camera.see(moment.joints, moment.mocap))
        canvas.paste(picture, (left, HEAD))
        text, colour = "moving", GOOD
        if over:
            text, colour = ("SUCCESS", GOOD) if lane.driven.success else ("FAILED", BAD)
        elif not moment.moving:
            text, colour = ("waits for the model", THINKING) if moment.thinking else ("waits for an image", THINKING)
        width = 24 + round(draw.textlength(text, self._text))
        draw.rounded_rectangle((left + 12, HEAD + 12, left + 12 + width, HEAD + 44), 6, colour)
        draw.text((left + 12 + width / 2, HEAD + 28), text, LIGHT, self._text, anchor="mm")
        top = HEAD + SIDE + 10
        draw.text((left, top), f"{min(seconds, lane.driven.seconds):.1f} s", LIGHT, self._big)
        draw.text((left + SIDE, top + 4), f"{moment.actions} actions", LIGHT, self._text, anchor="ra")
        self._strip(draw, lane, left, top + 38, seconds, longest)
        note = f"{100 * lane.driven.standstill:.0f} % of the time at rest" if over else ""
        draw.text((left, top + 60), note, DIM, self._small)

    def _strip(self, draw, lane: Lane, left: int, top: int, seconds: float, longest: float) -> None:
        """Green while the arm moved, amber while it waited."""
        for now, then in zip(lane.moments, lane.moments[1:], strict=False):
            if now.seconds < seconds:
                begin, end = (left + SIDE * min(at, seconds) / longest for at in (now.seconds, then.seconds))
                draw.rectangle((begin, top, max(begin, end - 1), top + 14), GOOD if now.moving else THINKING)
