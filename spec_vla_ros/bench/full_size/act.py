"""A process of its own per precision: loads the checkpoint, acts, and says what it took. ``python -m ...act <json>``.

A new process, so that its peak of memory is its own. The last line of standard output is one JSON object. ``cpu``: time
of all threads, which says what was done where other processes work on the same cores.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from spec_vla_ros.decoding.costs import PassCosts
    from spec_vla_ros.policy import OpenVLAPolicy
    from spec_vla_ros.policy_types import DecodeReport

INTERVAL = 0.02  # s between two looks at the memory
EVERYTHING = 254  # bins: every draft counts, so that one pass is enough
AHEAD = 2  # actions of a row that are not counted
STAGES = ("total", "vision", "prefill", "decode")  # of a report
PLAIN, WIDE, PLANNED = "autoregressive", "training_free", "training_free, planned"  # rows


@dataclass(frozen=True)
class Options:
    """``threads``: of torch on the CPU, 0 = one per core; ``actions`` per row that are counted."""

    folder: str
    precision: str
    device: str = "cpu"
    threads: int = 0
    actions: int = 3


class MemoryWatch:
    """The most memory that this process had: ``anonymous``, which nobody else can have, and mapped ``file`` pages,
    which the system takes back when it needs them. GB of 10^9 bytes; zero where the system does not say.
    """

    def __init__(self) -> None:
        self.anonymous = self.file = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """A last look."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                said = Path("/proc/self/status").read_text()
            except OSError:
                return
            anonymous, file = (
                1024e-9 * int(found[1]) if (found := re.search(rf"{name}:\s*(\d+)", said)) else 0.0
                for name in ("RssAnon", "RssFile")
            )
            self.anonymous, self.file = max(self.anonymous, anonymous), max(self.file, file)
            if self._end.wait(INTERVAL):
                return


def measure(options: Options) -> dict[str, Any]:
    """Figures of one precision."""
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.openvla.devices import use_threads
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy

    use_threads(options.threads)
    with MemoryWatch() as loading:
        began, worked = time.perf_counter(), time.process_time()
        loaded = load_model(options.folder, options.device, options.precision)
        load_s, load_cpu_s = time.perf_counter() - began, time.process_time() - worked
    with MemoryWatch() as acting:
        # Without a warm-up, which would time passes of all sizes for minutes: of two actions the first builds what is
        # missing, and by the second the tree of the third row is planned.
        policy = OpenVLAPolicy(loaded, planner=Planner.steady())
        beside = partial(OpenVLAPolicy, loaded, verifier=policy.verifier)  # with a history of its own
        rows = {PLAIN: _Row(policy, PLAIN, 0), WIDE: _Row(beside(planner=Planner.steady()), WIDE, EVERYTHING)}
        for _ in range(AHEAD):
            for row in rows.values():
                row.act()
        costs = _costs(rows[PLAIN].figures(1), rows[WIDE].figures(1))
        rows[PLANNED] = _Row(beside(planner=Planner(costs, learns=False)), WIDE, EVERYTHING)
        rows[PLANNED].act()  # drafts look back on it
        for _ in range(options.actions):  # in turns, because a machine may be a fifth slower minutes later
            for row in rows.values():
                row.act()
        presets = {name: row.figures(options.actions) for name, row in rows.items()}
    peaks = {
        "loading": {"anonymous": loading.anonymous, "mapped": loading.file},
        "acting": {"anonymous": acting.anonymous, "mapped": acting.file},
    }
    return {
        "precision": loaded.model.precision,
        "beside": str(loaded.model.dtype).removeprefix("torch."),
        "device": str(loaded.model.device),
        "threads": _threads(),
        "load_s": round(load_s, 1),
        "load_cpu_s": round(load_cpu_s, 1),
        "presets": presets,
        "peak_gb": {when: {kind: round(value, 2) for kind, value in both.items()} for when, both in peaks.items()},
        "gpu_peak_gb": _gpu_peak(loaded.model.device),
    }


class _Row:
    """What ``preset`` takes on ``policy``: images are the same for every row."""

    def __init__(self, policy: OpenVLAPolicy, preset: str, radius: int) -> None:
        from spec_vla_ros.policy_types import DecodeSettings

        self._policy = policy
        self._settings = DecodeSettings(preset=preset, acceptance_radius=radius, second_look=0)
        self._draw: Callable[..., np.ndarray] = np.random.default_rng(0).integers
        self._reports: list[DecodeReport] = []
        self._worked: list[float] = []

    def act(self) -> None:
        """One action more."""
        from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS

        image = self._draw(0, 255, (480, 640, 3), dtype=np.uint8)
        began = time.process_time()
        self._reports.append(self._policy.infer(image, EXAMPLE_INSTRUCTIONS[0], self._settings).report)
        self._worked.append(time.process_time() - began)

    def figures(self, actions: int) -> dict[str, Any]:
        """Of the last ``actions``."""
        reports = self._reports[-actions:]
        times = {name: [getattr(report, f"{name}_ms") / 1e3 for report in reports] for name in STAGES}
        times["cpu"] = self._worked[-actions:]
        return {
            "actions": actions,
            "passes_mean": round(float(np.mean([report.verifier_passes for report in reports])), 2),
            "drafted_mean": round(float(np.mean([sum(report.drafted_per_pass) for report in reports])), 1),
            **{
                f"{name}_s": {"median": round(float(np.median(v)), 3), "least": round(min(v), 3)}
                for name, v in times.items()
            },
        }


def _costs(plain: Mapping[str, Any], wide: Mapping[str, Any]) -> PassCosts:
    """What the node would have timed while it configured, in its place what has been timed: rows of a later pass
    count as much as those of the first, which is the most that they can take.
    """
    from spec_vla_ros.decoding.costs import PassCosts
    from spec_vla_ros.decoding.tree import TREE_ROWS

    first, full = (row["prefill_s"]["median"] for row in (plain, wide))
    later = plain["decode_s"]["median"] / (plain["passes_mean"] - 1)
    return PassCosts((0, TREE_ROWS), (first, max(full, first)), (later, later + max(full - first, 0.0)))


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _gpu_peak(device: Any) -> float | None:
    import torch

    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.type == "cuda" else None


def command(options: Options) -> list[str]:
    """To start :func:`measure` in a process of its own."""
    return [sys.executable, "-m", "spec_vla_ros.bench.full_size.act", json.dumps(asdict(options))]


def _main() -> int:
    sys.stdout.write(f"{json.dumps(measure(Options(**json.loads(sys.argv[1]))))}\n")
    return 0


if __name__ == "__main__":
    from spec_vla_ros import outermost

    sys.exit(outermost.run("full-size", _main))
