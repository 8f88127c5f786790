"""Rows of a replay, made by hand: what decoders said of images."""

from spec_vla_ros.recordings.frames import Commands
from spec_vla_ros.replay.compare import Comparison
from spec_vla_ros.replay.moments import moments
from spec_vla_ros.replay.report import Report
from spec_vla_ros.replay.verdict import judge

WIDTH = (0.001, 0.001, 0.002, 0.01, 0.01, 0.02, 2 / 255)  # m, rad, gripper units per bin
CENTRE = (100, 100, 100, 100, 100, 100, 0)  # bins; the gripper is closed
RADIUS = (9, 9, 9, 9, 9, 9, 0)
OPEN = 254  # the gripper's topmost bin
PERIOD = 10**8  # ns
PLAIN = "autoregressive"


def entry(bins, passes=7, ms=40.0, radius=RADIUS):
    values = [(b - c) * w for b, c, w in zip(bins[:6], CENTRE, WIDTH, strict=False)] + [bins[6] / OPEN]
    return {
        "bins": list(bins), "values": values, "passes": passes, "accepted": [7 - passes], "radius": list(radius),
        "ms": {"total": ms},
    }  # fmt: skip


def off(**axes):
    """Bins that are off the centre, by axis."""
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    return [bins + axes.get(name, 0) for bins, name in zip(CENTRE, names, strict=True)]


def compared(*actions, radius=RADIUS, order=(PLAIN, "fastest"), instruction="pick it up", ms=20.0):
    """One image per action, which all but autoregressive decoding say; that says the centre. None: an error."""
    comparison = Comparison(order, 0.2)
    for index, bins in enumerate(actions):
        own = {"error": "NON_FINITE: nan"} if bins is None else entry(bins, 1, ms, radius)
        plain = entry(CENTRE, radius=(0,) * 7)
        comparison.add({
            "index": index, "stamp_ns": 10**18 + index * PERIOD, "instruction": instruction, "fresh": index == 0,
            "presets": {name: plain if name == PLAIN else own for name in order},
        })  # fmt: skip
    return comparison


MADE = {
    "bag": {"name": "bag"}, "image_topic": "/camera", "period": 0.1, "model": "a model", "unnorm_key": "k",
    "dtype": "float32", "device": "cpu", "acceptance_mm": 0.0, "acceptance_mrad": 0.0, "acceptance_radius": 9,
    "acceptance_sum": 0, "second_look": 0.5, "draft_depth": 6,
}  # fmt: skip


def report(comparison, pictures=None, **made):
    """The report of a comparison."""
    verdicts, commands = judge(comparison, WIDTH), Commands()
    content = {
        "made_of": MADE | made, "summary": comparison.summary(commands), "left_out": [], "broken": "", "worst": [],
        "machine": {"processor": "a processor", "cores": 2, "load_average": [0.5, 0.5, 0.5]}, "versions": {},
        "counts": {
            "images_used": len(comparison), "images_unreadable": {}, "errors": comparison.errors,
            "instructions_refused": [], "images_without_instruction": 0, "actions_not_commanded": 0,
            "continued_from_row": 0,
        },
    }  # fmt: skip
    return Report(content, comparison, commands, verdicts, moments(comparison, verdicts), pictures or {})
