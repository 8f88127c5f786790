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

from .compare import AXES, OPEN, UNITS

FORMAT = 1
SHOWN = 10  # differences in a message


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
    made_of = {
        key: header[key] for key in ("bag", "image_topic", "instruction", "period", "unnorm_key") if key in header
    }
    radius = {key: header[key] for key in ("acceptance_radius", "draft_depth")}
    return {"format": FORMAT, "preset": preset, **radius, "made_of": made_of, "actions": actions}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """What is further off than ``tolerance``, one line each; empty if the test is passed."""
    if expected.get("format") != FORMAT:
        return [f"the golden file has format {expected.get('format')}, this version reads {FORMAT}: save it anew"]
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
    """Read a golden file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def save(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a golden file, whole or not at all."""
    path = Path(path)
    partial = path.with_suffix(f"{path.suffix}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def check(bag: Path | str, golden_file: Path | str, model: str = "models/tabletop", **options: Any) -> None:
    """Replay ``bag`` with the settings of ``golden_file``; ``AssertionError`` with the differences if it is off.

    ``options``: ``mm``, ``mrad``, ``gripper`` of :class:`Tolerance`, and those of :class:`.session.Options`.
    """
    import tempfile

    from .session import Options, replay

    tolerance = Tolerance(**{name: options.pop(name) for name in ("mm", "mrad", "gripper") if name in options})
    expected = load(golden_file)
    with tempfile.TemporaryDirectory() as folder:
        made = Options(
            bag=Path(bag), out=Path(folder), model=model, presets=(expected["preset"],), report=False,
            acceptance_radius=expected["acceptance_radius"], draft_depth=expected["draft_depth"], **options,
        )  # fmt: skip
        result = replay(made)
        found = golden(result.header, result.rows(), expected["preset"])
    if lines := differences(expected, found, tolerance):
        more = f"\n... and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise AssertionError(f"{bag}: {len(lines)} differences from {golden_file}\n" + "\n".join(lines[:SHOWN]) + more)
