"""A bag as a test: the actions of today are saved, those of tomorrow have to be near them.

In a package of one's own, with the bag and the golden file beside the test::

    from spec_vla_ros.replay.golden import check

    def test_the_policy_still_does_what_it_did():
        check("bag", "golden.json", model="models/mine")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.openvla.picture import BEFORE_IT_WAS_SAID
from spec_vla_ros.outputs import write_text
from spec_vla_ros.recordings.errors import ReplayError

from .compare import AXES, OPEN, UNITS
from .options import DECODING
from .run import changed

FORMAT = 2
SHOWN = 10  # differences in a message
# What the actions were made of: the first kind has to be the same, else nothing is compared; the second kind may be
# what is tested, and is told.
SAME = ("bag", "image_topic", "instruction", "instruction_topic", "period", "unnorm_key", "centre_crop", "image_resize")
TOLD = (
    *("model", "revision", "model_digest", "base_digest", "statistics_digest", "prompt", "heads_digest", "dtype"),
    *("device", "versions"),
)


class MismatchError(Exception):
    """The replay is of something else than the golden file; ``lines`` say of what, one each."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class Tolerance:
    """What an action may be off: mm, mrad, and how many grippers (a share of the images) may decide otherwise.

    Zero everywhere asks for the same numbers: right for one machine and one library version, too much for others.
    """

    mm: float = 0.5
    mrad: float = 2.0
    gripper: float = 0.0

    def of_axes(self) -> np.ndarray:
        """(6,) m and rad."""
        return 1e-3 * np.array([self.mm] * 3 + [self.mrad] * 3)


def golden(header: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], preset: str) -> dict[str, Any]:
    """What is saved: of one decoder, per image its stamp and its action."""
    actions = []
    for row in rows:
        entry = row.get("presets", {}).get(preset, {})
        actions.append(
            {"stamp_ns": row["stamp_ns"], "values": entry.get("values"), "error": entry.get("error", row.get("error"))}
        )
    made_of = {key: header[key] for key in (*SAME, *TOLD)}
    made_of["device"] = made_of["device"].split(":")[0]  # cuda:0 and cuda:1 are of a kind
    settings = {key: header[key] for key in DECODING}
    return {"format": FORMAT, "preset": preset, "settings": settings, "made_of": made_of, "actions": actions}


def options(expected: Mapping[str, Any]) -> dict[str, Any]:
    """How to decode for a comparison, as options of a replay."""
    return {"presets": (expected["preset"],), **expected["settings"]}


def require(expected: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise :class:`MismatchError` if actions made of ``header`` cannot be compared with the golden file."""
    lines = []
    made_of = {"image_resize": BEFORE_IT_WAS_SAID, **expected["made_of"]}
    for key in SAME:
        old, new = made_of[key], header[key]
        if key == "bag":
            if old["sha256_of_ends"] != new["sha256_of_ends"]:
                lines.append(f"another bag: {new['name']}, the golden file is of {old['name']} with other content")
        elif old != new:
            option = f"--{key.replace('_', '-')}"
            lines.append(f"another {key}: {new!r}, the golden file was made with {old!r} ({option})")
    if lines:
        raise MismatchError(lines)


def notes(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What else is not as it was when the golden file was saved: what is tested, or why numbers are a little off."""
    old, new = ({key: content["made_of"][key] for key in TOLD} for content in (expected, found))
    return [f"not as saved, {line}" for line in changed(old, new)]


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """What is further off than ``tolerance``, one line each; empty if the test is passed."""
    old = {action["stamp_ns"]: action for action in expected["actions"]}
    new = {action["stamp_ns"]: action for action in found["actions"]}
    lines = [f"image {stamp}: an action was expected and there is none" for stamp in old.keys() - new.keys()]
    lines += [f"image {stamp}: there is an action that was not expected" for stamp in new.keys() - old.keys()]
    flips, limits = [], tolerance.of_axes()
    for number, stamp in enumerate(sorted(old.keys() & new.keys())):
        before, now = old[stamp], new[stamp]
        if (before["error"] or None) != (now["error"] or None):
            lines.append(f"image {number}: {now['error'] or 'no error'}, expected {before['error'] or 'no error'}")
        if not before["values"] or not now["values"]:
            continue
        apart = np.abs(np.array(now["values"][:6]) - np.array(before["values"][:6]))
        for axis in np.flatnonzero(~(apart <= limits)):  # NaN is off as well
            lines.append(
                f"image {number}: {AXES[axis]} is {1e3 * now['values'][axis]:.2f} {UNITS[axis]}, expected "
                f"{1e3 * before['values'][axis]:.2f} +- {1e3 * limits[axis]:.2f}"
            )
        if (now["values"][-1] > OPEN) != (before["values"][-1] > OPEN):
            flips.append(f"image {number}: the gripper is {now['values'][-1]:.2f}, expected {before['values'][-1]:.2f}")
    if len(flips) > tolerance.gripper * max(1, len(old)):
        lines += flips
    return lines


def load(path: Path | str) -> dict[str, Any]:
    """Read a golden file. Raises :class:`.errors.ReplayError` for what is none, or one of another version."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        version = content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReplayError(f"{path} is no golden file: {type(error).__name__}: {error}") from error
    if version != FORMAT:
        raise ReplayError(f"{path} has format {version}, this version reads {FORMAT}: save it anew")
    settings = content.get("settings", {})  # of before: with a gripper_radius, which had no effect
    metric = any(settings.get(f"acceptance_{unit}") for unit in ("mm", "mrad"))
    if settings.pop("gripper_radius", None) is not None and metric:
        raise ReplayError(
            f"{path} is of a version in which acceptance_mm and acceptance_mrad replaced acceptance_radius; now the "
            "tightest of them holds, and the actions are others: save it anew"
        )
    return content


def save(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a golden file, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def check(bag: Path | str, golden_file: Path | str, model: str = "", **more: Any) -> None:
    """Replay ``bag`` with the settings of ``golden_file``; ``AssertionError`` with the differences if it is off.

    ``more``: ``mm``, ``mrad``, ``gripper`` of :class:`Tolerance`, and those of :class:`.options.Options`.
    """
    import tempfile

    from .options import Options
    from .session import replay

    tolerance = Tolerance(**{name: more.pop(name) for name in ("mm", "mrad", "gripper") if name in more})
    expected = load(golden_file)
    with tempfile.TemporaryDirectory() as folder:
        made = Options(bag=Path(bag), out=Path(folder), model=model, report=False, **options(expected), **more)
        try:
            result = replay(made, look=lambda header: require(expected, header))
        except MismatchError as error:
            raise AssertionError(f"{bag} cannot be compared with {golden_file}\n{error}") from error
        found = golden(result.header, result.rows(), expected["preset"])
    if lines := differences(expected, found, tolerance):
        shown = [*lines[:SHOWN], *([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])]
        shown = [f"{bag}: {len(lines)} differences from {golden_file}", *shown, *notes(expected, found)]
        raise AssertionError("\n".join(shown))
