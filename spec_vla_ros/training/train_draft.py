"""``spec-vla train-draft``: heads that draft for a checkpoint, distilled from the checkpoint itself.

Frames come from the verifier driving the simulated table top and its greedy tokens are the labels, so no data set is
needed. Everything continues from the files in the work folder if it is started again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..decoding.heads.store import FOLDER, save_head
from ..decoding.heads.vision_head import VisionHeadConfig
from ..openvla.loader import LoadedModel, load_model
from ..sim.tasks import TASKS
from . import train_eagle_head, train_vision_head
from .draft_data import DraftFrames, collect
from .tabletop import keep_freed_memory
from .train_vision_head import Samples

FRAMES_PER_FILE = 1800
FIRST_SEED = 20_000_000  # far from the seeds of training, evaluation and demonstration
HELD_OUT = 1  # files that are not learnt from
RADII = (9, 9, 9, 9, 9, 9, 0)  # of the report


def main(argv: list[str]) -> int:
    """Command line: ``train-draft``, and for its own child process ``--collect-only``."""
    parser = argparse.ArgumentParser(prog="spec-vla train-draft", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("models/tabletop"), help="the verifier (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the heads (drafters/ in the model's folder)")
    parser.add_argument("--work", type=Path, default=Path("out/train-draft"), help="frames and states (%(default)s)")
    parser.add_argument("--heads", nargs="+", choices=("vision", "eagle"), default=["vision", "eagle"])
    parser.add_argument("--files", type=int, default=24, help=f"of {FRAMES_PER_FILE} frames each (%(default)s)")
    parser.add_argument("--vision-minutes", type=float, default=60.0, help="(%(default)s)")
    parser.add_argument("--eagle-minutes", type=float, default=25.0, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--collect-only", action="store_true", help="frames, no training")
    arguments = parser.parse_args(argv[1:])
    torch.set_num_threads(1)  # on shared cores one thread is faster than two
    keep_freed_memory()

    def log(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    loaded = load_model(arguments.model, device="cpu")
    if arguments.collect_only:
        collect_files(loaded, arguments.work, arguments.files, log)
        return 0
    train(loaded, arguments, log)
    return 0


def collect_files(loaded: LoadedModel, work: Path, files: int, log: Callable[[str], None]) -> None:
    """Write the files of frames that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    for seed in range(FIRST_SEED, FIRST_SEED + files):
        path = work / f"draft_{seed:08d}.npz"
        if not path.exists():
            began = time.monotonic()
            frames = collect(loaded, FRAMES_PER_FILE, seed)
            frames.save(path)
            log(f"{path.name}: {len(frames)} answers of the verifier in {time.monotonic() - began:.0f} s")


def train(loaded: LoadedModel, arguments: argparse.Namespace, log: Callable[[str], None]) -> None:
    """Collect in a process beside, train one head after the other, report what they are worth."""
    work, out = arguments.work, arguments.out or arguments.model / FOLDER
    command = [sys.executable, "-m", "spec_vla_ros.training.train_draft", "train-draft", "--collect-only"]
    command += ["--model", str(arguments.model), "--work", str(work), "--files", str(arguments.files)]
    with subprocess.Popen(command) as child:  # noqa: S603 - starts itself
        try:
            while len(_files(work)) <= HELD_OUT and child.poll() is None:
                time.sleep(1)
            if len(_files(work)) <= HELD_OUT:
                raise SystemExit(f"train-draft: {HELD_OUT + 1} files of frames are needed in {work}; see --files")
            held_out = _samples(loaded, _files(work)[:HELD_OUT])
            if "vision" in arguments.heads:
                _train_vision(loaded, arguments, work, out, held_out, log)
            child.wait()
            if "eagle" in arguments.heads:
                _train_eagle(loaded, arguments, work, out, log)
        finally:
            child.terminate()


def _train_vision(
    loaded: LoadedModel, arguments: argparse.Namespace, work: Path, out: Path, held_out: Samples, log: Callable
) -> None:
    config = VisionHeadConfig(
        hidden=loaded.config.llama.hidden_size,
        patches=loaded.config.towers[0].patches,
        action_dim=loaded.statistics.action_dim,
        bins=loaded.tokens.bins,
    )
    radii, state = torch.tensor(RADII[: config.action_dim]), work / "vision.pt"
    known = _files(work)[HELD_OUT:]
    samples = _samples(loaded, known)

    def refresh() -> Samples | None:
        nonlocal known, samples
        files = _files(work)[HELD_OUT:]
        if files == known:
            return None
        known, samples = files, _samples(loaded, files)
        return samples

    def save(head: Any) -> None:
        torch.save(head.state_dict(), state)
        log(f"held out: {train_vision_head.agreement(head, held_out, radii, 600)}")

    initial = torch.load(state, weights_only=True) if state.exists() else None
    head = train_vision_head.train(
        samples, config, arguments.vision_minutes, arguments.seed, log, save, refresh, initial=initial
    )
    report = train_vision_head.agreement(head, held_out, radii)
    save_head(head, out / "vision", {"report": report, "answers": len(samples), "minutes": arguments.vision_minutes})
    log(f"wrote {out / 'vision'}: {report}")


def _train_eagle(loaded: LoadedModel, arguments: argparse.Namespace, work: Path, out: Path, log: Callable) -> None:
    state = work / "eagle.pt"
    initial = torch.load(state, weights_only=True) if state.exists() else None
    samples = _samples(loaded, _files(work)[HELD_OUT:])
    prompts = [loaded.prompt.ids(task.instruction) for task in TASKS]
    head = train_eagle_head.train(
        loaded, samples, prompts, arguments.eagle_minutes, arguments.seed, log,
        lambda head: torch.save(head.state_dict(), state), initial=initial,
    )  # fmt: skip
    save_head(head, out / "eagle", {"answers": len(samples), "minutes": arguments.eagle_minutes})
    log(f"wrote {out / 'eagle'}")


def _files(work: Path) -> list[Path]:
    return sorted(path for path in work.glob("draft_*.npz") if ".partial" not in path.name)


def _samples(loaded: LoadedModel, files: list[Path]) -> Samples:
    instructions = [task.instruction for task in TASKS]
    return Samples(DraftFrames.load(files), loaded, instructions, VisionHeadConfig.text_rows)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
