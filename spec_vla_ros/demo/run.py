"""One run of the demonstration, from starting the nodes to the files in the output folder."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.recordings.recording import Recording
from spec_vla_ros.ros.children import Child, DemoError, act_arguments, end_all, own_domain, start

from ..errors import CheckpointError
from ..openvla.sources import local_folder
from ..outputs import require, write_text, writing
from .summary import EpisodeRecord, Setting

FIRST_SEED = 7_000_000  # layouts that no training and no evaluation has drawn from
RACED = ("training_free", "fastest")
PRESETS = ("autoregressive", "training_free", "fastest")  # the last one where the model has a vision head


@dataclass(frozen=True)
class Options:
    """What to run. ``episodes``: per row. ``filmed``: of these, how many are in the film.

    ``model``: checkpoint folder or hub id; ``policy``: "openvla", or "scripted" for canned moves without a model.
    ``base_model``: as the node's parameter.
    ``time_limit``: s of simulated time per episode, 0 = the task's own.
    """

    out: Path
    model: str
    episodes: int
    filmed: int
    seed: int = 0
    policy: str = "openvla"
    presets: tuple[str, ...] = PRESETS
    time_limit: float = 0.0
    base_model: str = ""


def plan(episodes: int, seed: int) -> list[tuple[str, int]]:
    """(instruction, layout seed) of each episode, the same for every row; kinds and colours alternate."""
    from spec_vla_ros.tabletop.tasks import TASKS

    return [(TASKS[4 * i % len(TASKS)].instruction, FIRST_SEED + 1000 * seed + i) for i in range(episodes)]


def run(options: Options, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run all rows and write the results; returns the summary. Raises :class:`DemoError` and ``KeyboardInterrupt``.

    Whatever happens, the nodes are ended before this returns, the act node first.
    """
    began = time.monotonic()
    model = _model(options)
    require(options.out, folder=True)
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    env = own_domain()
    recording, children = Recording(), []
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        who, domain = model or options.policy, env["ROS_DOMAIN_ID"]
        say(f"starting the simulated arm and the act node ({who}), ROS_DOMAIN_ID {domain}")
        start(children, "the simulated arm", "spec_vla_ros.tabletop.arm_node", [], options.out / "arm.log", env)
        rows = tuple(Setting.of(preset) for preset in options.presets if preset != "fastest" or has_vision_head(model))
        about = _act(options, model), options.out / "act.log", env
        start(children, "the act node", "spec_vla_ros.node.act_node", *about)
        episodes, runtime = _drive(options, rows, recording, children, say, began)
    except DemoError as error:
        logs = "\n".join(f"The end of {child.log}:\n{child.tail()}" for child in children if child.alive)
        raise DemoError(f"{error}\n{logs}") from error
    finally:
        end_all(children)
        signal.signal(signal.SIGTERM, before)
    from .results import write_results

    about = {"runtime": runtime, "model": model or options.policy, "seed": options.seed}
    summary = write_results(options.out, recording, rows, episodes, about, options.filmed, say)
    if model and Path(model).is_dir() and any(row.preset in RACED for row in rows):
        from .race import race

        presets, todo = [row.preset for row in rows if row.preset in RACED], plan(options.episodes, options.seed)
        with writing(options.out):
            summary["emulated"] = race(model, presets, todo, options.filmed, options.base_model, options.out, say)
        write_text(options.out / "summary.json", json.dumps(summary, indent=2) + "\n")
    say(f"done in {time.monotonic() - began:.0f} s")
    return summary


def _model(options: Options) -> str:
    """The checkpoint, in the working directory, in the package, or a hub id; "" for the scripted policy."""
    if options.policy != "openvla":
        return ""
    try:
        return str(local_folder(options.model) or options.model)
    except CheckpointError as error:
        raise DemoError(f"{error}. Train one with: spec-vla train-tabletop") from error


def has_vision_head(model: str) -> bool:
    """Whether the checkpoint folder holds a vision head."""
    return bool(model) and Path(model, "drafters", "vision", "config.json").is_file()


def _act(options: Options, model: str) -> list[str]:
    """Arguments of the act node."""
    values = {"policy": options.policy, **({"model": model} if model else {})}
    values |= {"base_model": options.base_model} if options.base_model else {}
    return act_arguments(values)


def _drive(
    options: Options,
    rows: Sequence[Setting],
    recording: Recording,
    children: Sequence[Child],
    say: Callable[[str], None],
    began: float,
) -> tuple[list[EpisodeRecord], str]:
    """All episodes of all rows."""
    from .operator_node import RUNTIME, operator

    def watch() -> None:
        for child in children:
            child.check()

    episodes: list[EpisodeRecord] = []
    todo = plan(options.episodes, options.seed)
    total = len(rows) * len(todo)
    with operator(recording, watch) as node:
        node.wait_for_nodes()
        say(f"both nodes are up after {time.monotonic() - began:.1f} s")
        started = time.monotonic()
        for row, setting in enumerate(rows):
            node.apply(setting)
            for index, (instruction, seed) in enumerate(todo):
                episode, passes = node.run_episode(row, index, instruction, seed, options.time_limit)
                episodes.append(episode)
                left = (time.monotonic() - started) / len(episodes) * (total - len(episodes))
                say(progress(len(episodes), total, setting, episode, passes, left))
    return episodes, RUNTIME


def progress(
    number: int, total: int, setting: Setting, episode: EpisodeRecord, passes: Sequence[int], left: float
) -> str:
    """One line about a finished episode; ``left``: s until the last one."""
    mean = f"{sum(passes) / len(passes):.2f}" if passes else "-"
    outcome = "success" if episode.success else "FAILED "
    return (
        f"[{number:{len(str(total))}d}/{total}] {setting.preset:<14}  {episode.instruction:<32}  {outcome}"
        f"  {episode.elapsed:4.1f} s  {len(passes):3d} actions of {mean} passes   {_minutes(left)} left"
    )


def _minutes(seconds: float) -> str:
    return f"{round(seconds)} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
