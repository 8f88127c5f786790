"""``spec-vla train-tabletop`` and ``eval-tabletop``: the small policy from nothing, and what it is worth.

Training has three parts that overlap: one process drives the expert and records, the main process trains first the
towers and then the decoder, and once a decoder exists another process lets it drive and has the expert label what it
met (DAgger, Ross et al. 2011). Every part continues from the files in the work folder if it is started again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spec_vla_ros import outermost
from spec_vla_ros.arguments import BASE_MODEL, BINS, COUNT, MINUTES, POSITIVE, SEED, SIZE, Parser, whole
from spec_vla_ros.decoding.drafters import DRAFTERS
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.errors import CommandError
from spec_vla_ros.installed import TABLETOP as TABLETOP_MODEL
from spec_vla_ros.memory import keep_freed_memory
from spec_vla_ros.openvla.checkpoint import save_checkpoint
from spec_vla_ros.openvla.loader import load_model
from spec_vla_ros.openvla.model import OpenVLA
from spec_vla_ros.openvla.picture import PictureRule
from spec_vla_ros.openvla.prompt import Prompt
from spec_vla_ros.openvla.tokenizer_small import build_small_tokenizer
from spec_vla_ros.openvla.vision import VisionBackbone
from spec_vla_ros.outermost import undisturbed
from spec_vla_ros.outputs import require, write_text, writing
from spec_vla_ros.outputs import whole as whole_file
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings
from spec_vla_ros.tabletop.tasks import TASKS

from .data import Frames, collect
from .model import STATISTICS_KEY, TABLETOP
from .policy import FrameBank, PolicyTrainer, from_checkpoint, train_policy
from .rollout import evaluate, summarize
from .vision import train_vision

FRAMES_PER_FILE = 2000
EXPERT_SEED, LEARNER_SEED = 10_000, 700_000
AUTOREGRESSIVE = DecodeSettings(decoder="autoregressive", drafters=())
# Range of one action per dimension (m, rad per step): the expert's limits; for tilt the 1st and 99th percentile of the
# corrections that frames driven by a learner ask for (twice those of the expert's own frames).
ACTION_LOW = np.array([-0.05, -0.05, -0.05, -0.14, -0.14, -0.25, 0.0])
ACTION_HIGH = -ACTION_LOW + np.array([0, 0, 0, 0, 0, 0, 1.0])


def statistics(frames: Frames | None = None) -> dict[str, object]:
    """``dataset_statistics.json`` of the small policy."""
    actions = frames.actions[np.arange(len(frames)), frames.task] if frames is not None else None
    entry: dict[str, object] = {
        "q01": ACTION_LOW.tolist(),
        "q99": ACTION_HIGH.tolist(),
        "mask": [True] * 6 + [False],
    }
    if actions is not None:
        entry |= {name: getattr(actions, name)(0).tolist() for name in ("mean", "std", "min", "max")}
    count = len(frames) if frames is not None else 0
    return {STATISTICS_KEY: {"action": entry, "num_transitions": count, "num_trajectories": 0}}


def export(trainer: PolicyTrainer, backbone: VisionBackbone, folder: Path, frames: Frames | None = None) -> None:
    """Write a checkpoint folder in the published layout."""
    model = OpenVLA(TABLETOP)
    model.vision_backbone.load_state_dict(backbone.state_dict())
    model.projector.load_state_dict(trainer.folded_projector().state_dict())
    model.language_model.load_state_dict(trainer.llama.state_dict())
    save_checkpoint(model, folder, statistics(frames), build_small_tokenizer(t.instruction for t in TASKS))


def collect_files(work: Path, kind: str, files: int, seed: int) -> None:
    """Write ``files`` files of frames; kind "learner" drives with the newest snapshot, waiting for the first one."""
    data = work / "data"
    data.mkdir(parents=True, exist_ok=True)
    for i in range(files):
        path = data / f"{kind}_{seed + i:07d}.npz"
        if path.exists():
            continue
        if kind == "expert":
            collect(FRAMES_PER_FILE, seed + i, PictureRule.of(TABLETOP)).save(path)
            continue
        newest = _newest_snapshot(work)
        while newest is None:
            time.sleep(5)
            newest = _newest_snapshot(work)
        policy = OpenVLAPolicy(load_model(newest, device="cpu", unnorm_key=STATISTICS_KEY), planner=Planner.steady())
        collect(
            FRAMES_PER_FILE,
            seed + i,
            PictureRule.of(TABLETOP),
            actor=lambda image, task: policy.infer(image, task.instruction, AUTOREGRESSIVE).values.copy(),  # noqa: B023
            noise=0.5,
        ).save(path)


def _newest_snapshot(work: Path) -> Path | None:
    done = [p for p in (work / "snapshots").glob("*") if (p / "model.safetensors").exists()]
    return max(done, key=lambda p: p.stat().st_mtime, default=None)


def train(args: argparse.Namespace, log: Callable[[str], None]) -> None:
    """All stages; see the module docstring."""
    work = args.work
    if args.resume and not args.resume.exists():
        raise CommandError(f"{args.resume} does not exist; --resume takes policy.pt or an exported model")
    require(work, args.out, folder=True)
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    children: list[subprocess.Popen[bytes]] = []
    try:
        with undisturbed():
            children.append(_spawn(work, "expert", args.expert_files, EXPERT_SEED))
        _wait_for_frames(args, children[0])
        backbone = _vision_stage(args, log)
        with undisturbed():
            children.append(_spawn(work, "learner", 10_000, LEARNER_SEED))
        trainer = _policy_stage(args, backbone, log)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
    frames = Frames.load([_data_files(work)[0]])
    export(trainer, backbone, args.out, frames)
    log(f"wrote {args.out}")


def _spawn(work: Path, kind: str, files: int, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "spec_vla_ros.tabletop.training.train", "collect", "--work", str(work)]
    # A session of its own: Ctrl-C reaches it through this process.
    return subprocess.Popen(
        [*command, "--kind", kind, "--files", str(files), "--seed", str(seed)], start_new_session=True
    )


def _data_files(work: Path, pattern: str = "*.npz") -> list[Path]:
    return sorted(p for p in (work / "data").glob(pattern) if ".partial" not in p.name)


def _wait_for_frames(args: argparse.Namespace, expert: subprocess.Popen[bytes]) -> None:
    while len(_data_files(args.work)) < min(4, args.expert_files):
        if expert.poll() and len(_data_files(args.work)) < min(4, args.expert_files):
            raise CommandError(f"the process that records the expert has ended with status {expert.returncode}")
        time.sleep(2)
    if not _data_files(args.work):
        raise CommandError(f"no frames in {args.work / 'data'}, and --expert-files 0 records none")


def _vision_stage(args: argparse.Namespace, log: Callable[[str], None]) -> VisionBackbone:
    if args.resume:
        return VisionBackbone(TABLETOP.towers)  # its weights come with the decoder's
    path = args.work / "vision.pt"
    if not path.exists():
        with whole_file(path) as partial:
            train_vision(
                lambda: Frames.load(_data_files(args.work, "expert_*.npz")),
                TABLETOP, args.vision_minutes, args.seed, log, partial,
            )  # fmt: skip
    backbone = VisionBackbone(TABLETOP.towers)
    backbone.load_state_dict(torch.load(path, weights_only=True))
    return backbone


def _policy_stage(args: argparse.Namespace, backbone: VisionBackbone, log: Callable[[str], None]) -> PolicyTrainer:
    prompt = Prompt(build_small_tokenizer(t.instruction for t in TASKS), TABLETOP.action_vocab_end)
    initial = None
    if args.resume:
        initial = from_checkpoint(args.resume) if args.resume.is_dir() else torch.load(args.resume, weights_only=True)
        backbone.load_state_dict(initial["towers"])
    bank = FrameBank(backbone, TABLETOP, ACTION_LOW, ACTION_HIGH)

    def refresh(bank: FrameBank) -> None:
        fresh = [p for p in _data_files(args.work) if p not in bank.seen]
        for path in fresh:
            bank.add(path, weight=1.0 if path.name.startswith("expert") else args.learner_weight)

    def snapshot(trainer: PolicyTrainer, progress: float) -> None:
        state = {"decoder": trainer.state_dict(), "towers": backbone.state_dict()}
        with whole_file(args.work / "policy.pt") as partial:
            torch.save(state, partial)
        if progress < 0.08 and not args.resume:
            return  # what a beginner does teaches nothing
        folder = args.work / "snapshots" / f"{time.strftime('%H%M%S')}"
        export(trainer, backbone, folder)
        log(f"snapshot {folder.name} at {progress:.1%}")

    prompts = [prompt.ids(t.instruction) for t in TASKS]
    return train_policy(
        bank,
        refresh,
        prompts,
        args.policy_minutes,
        args.seed,
        log,
        snapshot,
        peak_rate=args.rate,
        initial=initial["decoder"] if initial is not None else None,
    )


def evaluate_command(args: argparse.Namespace, log: Callable[[str], None]) -> list[dict[str, object]]:
    """Closed loop without ROS, one row per decoder."""
    require(args.json)
    loaded = load_model(args.model, "cpu", unnorm_key=args.unnorm_key, base_model=args.base_model)
    policy, rows = OpenVLAPolicy(loaded, planner=Planner.steady()), []
    for decoder in args.decoders:
        settings = AUTOREGRESSIVE
        if decoder != "autoregressive":
            settings = DecodeSettings(
                drafters=tuple(args.drafters), acceptance_radius=args.radius, draft_depth=args.depth, emit=args.emit
            )
        wins: list[bool] = []

        def progress(episode: object, wins: list[bool] = wins, decoder: str = decoder) -> None:
            wins.append(episode.success)  # type: ignore[attr-defined]
            if len(wins) % 30 == 0:
                log(f"{decoder}: {len(wins)} of {args.episodes} episodes, success {np.mean(wins):.1%}")

        rows.append(summarize(evaluate(policy, settings, args.episodes, args.first_seed, progress), settings))
        log(json.dumps(rows[-1]))
    if args.json:
        write_text(args.json, json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


def _parser() -> Parser:
    parser = Parser(prog="spec-vla")
    sub = parser.add_subparsers(dest="command", required=True)
    p = sub.add_parser("train-tabletop", help="train the small table-top policy (CPU, hours)")
    p.add_argument("--out", type=Path, default=Path("out/tabletop"), help="checkpoint folder to write")
    p.add_argument("--work", type=Path, default=Path("out/train-tabletop"), help="frames and snapshots, reused")
    p.add_argument("--vision-minutes", type=MINUTES, default=28)
    p.add_argument("--policy-minutes", type=MINUTES, default=75)
    p.add_argument("--expert-files", type=whole(0), default=30, help=f"files of {FRAMES_PER_FILE} frames")
    p.add_argument("--learner-weight", type=SIZE, default=2.0, help="how often learner frames are drawn")
    p.add_argument("--rate", type=POSITIVE, default=1.5e-3, help="peak learning rate of the policy stage")
    p.add_argument("--resume", type=Path, help="policy.pt of an earlier run, or an exported model, to continue from")
    p.add_argument("--seed", type=SEED, default=0)
    p = sub.add_parser("collect")
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--kind", choices=("expert", "learner"), required=True)
    p.add_argument("--files", type=whole(0), required=True)
    p.add_argument("--seed", type=SEED, required=True)
    p = sub.add_parser("eval-tabletop", help="closed-loop success and passes on the simulated arm, without ROS")
    p.add_argument("--model", default=TABLETOP_MODEL)
    p.add_argument("--base-model", default="", help=BASE_MODEL)
    p.add_argument("--unnorm-key", default=STATISTICS_KEY)
    p.add_argument("--episodes", type=COUNT, default=300)
    p.add_argument("--first-seed", type=SEED, default=5_000_000)
    decoders = ("autoregressive", "speculative")
    p.add_argument("--decoders", nargs="+", choices=decoders, default=list(decoders))
    usual = DecodeSettings()
    p.add_argument("--drafters", nargs="+", choices=sorted(DRAFTERS), default=list(usual.drafters))
    p.add_argument("--radius", type=BINS, default=usual.acceptance_radius, help="acceptance radius in bins")
    p.add_argument("--depth", type=whole(0, 6), default=usual.draft_depth, help="drafted tokens per pass")
    p.add_argument("--emit", choices=("verifier", "draft"), default=usual.emit)
    p.add_argument("--json", type=Path)
    return parser


def main(argv: list[str]) -> int:
    """Command line: ``train-tabletop``, ``eval-tabletop`` or (for its own child processes) ``collect``."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(1)  # on shared cores one thread is faster than two

    def log(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    if args.command == "train-tabletop":
        keep_freed_memory()
        train(args, log)
    elif args.command == "collect":
        collect_files(args.work, args.kind, args.files, args.seed)
    else:
        evaluate_command(args, log)
    return 0


if __name__ == "__main__":
    raise SystemExit(outermost.run(" ".join(sys.argv[1:2]), lambda: main(sys.argv[1:])))
