"""Success on LIBERO by the protocol of OpenVLA's evaluation, for several presets, over processes and GPUs, resumable.

Every worker process owns a model and a simulator and takes every n-th of the episodes that are still to do. A finished
episode is one line in the worker's own file, so nobody waits for a lock, and what a kill cuts off is at most one line.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from spec_vla_ros.decoding.presets import resolve
from spec_vla_ros.errors import CommandError
from spec_vla_ros.outermost import in_words
from spec_vla_ros.outputs import appending, write_text, writing
from spec_vla_ros.policy_types import Policy

from .episode import LiberoEpisode, World, run_episode
from .options import Key, Options
from .protocol import SUITES
from .report import make_rows

GRACE = 15.0  # s that a worker gets to notice the end; an action of a large model on a CPU may take that long
ABOUT, LOCK, EPISODES = "run.json", "lock", "episodes-*.jsonl"


class LiberoBenchError(CommandError):
    """The bench cannot go on; the message is for the person at the keyboard."""

    lines = True


@dataclass(frozen=True)
class Driver:
    """What a worker drives with. ``size``: px of the model's picture; ``heads``: drafters with a trained head."""

    policy: Policy
    size: int
    heads: frozenset[str] = frozenset()
    notes: tuple[str, ...] = field(default=())


def load_driver(options: Options, device: str, threads: int) -> Driver:
    """The model on ``device``, with the centre crop that the data set's models were trained with."""
    import torch

    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(threads)
    key = options.unnorm_key or SUITES[options.suite].key
    loaded = load_model(
        options.model, device, options.dtype, key, options.revision or None,
        base_model=options.base_model, centre_crop=True,
    )  # fmt: skip
    heads, problems = trained_drafters(loaded, heads_folder(loaded, options.heads or ""))
    policy = OpenVLAPolicy(loaded, heads, problems, planner=Planner.steady())  # episodes are run anew one by one
    policy.warm_up("pick up the bowl")
    return Driver(policy, loaded.config.image_size, frozenset(heads), tuple(problems))


def open_world(options: Options, index: int) -> World:
    """The simulator of worker ``index``."""
    from .world import LiberoWorld

    return LiberoWorld(SUITES[options.suite], options.work / f"libero-{index}", options.assets)


def check(options: Options) -> None:
    """Raise ``LiberoMissingError`` before anything is started in vain."""
    from .world import require

    require(options.assets)


@dataclass(frozen=True)
class Parts:
    """Where simulator and model come from; functions of a module, because they cross to other processes."""

    check: Callable[[Options], None] = check
    world: Callable[[Options, int], World] = open_world
    driver: Callable[[Options, str, int], Driver] = load_driver


def measure(options: Options, say: Callable[[str], None], parts: Parts | None = None) -> list[dict[str, Any]]:
    """One row per preset. Raises :class:`LiberoBenchError`, and ``KeyboardInterrupt`` once every worker has ended."""
    parts = parts or Parts()
    parts.check(options)
    with _claimed(options):
        done = read_episodes(options.work, say)
        plan = options.plan()
        pending = [key for key in plan if key not in done]
        say(f"{options.suite}: {len(plan)} episodes, {len(plan) - len(pending)} of them done; {options.work}")
        try:
            problems = _run(options, pending, say, parts) if pending else []
        except KeyboardInterrupt:
            have = len(read_episodes(options.work, say).keys() & set(plan))
            say(f"interrupted; {have} of {len(plan)} episodes stand, the same command goes on from there")
            raise
        done = read_episodes(options.work, say)
        if problems:
            have = len(done.keys() & set(plan))
            raise LiberoBenchError(
                "\n".join([*problems, f"{have} of {len(plan)} episodes stand; the same command goes on from there"])
            )
    return make_rows(options, done)


# -- the work folder ---------------------------------------------------------------------------------------------------


@contextmanager
def _claimed(options: Options) -> Iterator[None]:
    """The work folder, for this run alone and for one kind of run."""
    with writing(options.work):
        options.work.mkdir(parents=True, exist_ok=True)
    about = options.work / ABOUT
    with (options.work / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LiberoBenchError(f"another run is working in {options.work}") from error
        here = options.identity()
        if about.is_file():
            there = _about(about)
            differing = [name for name in here if there.get(name) != here[name]]
            if differing:
                told = "; ".join(f"{name} was {there.get(name)!r}, now {here[name]!r}" for name in differing)
                raise LiberoBenchError(f"{options.work} holds episodes of another run: {told}. Choose another --work")
        else:
            write_text(about, json.dumps(here, indent=2) + "\n")
        yield


def _about(path: Path) -> dict[str, Any]:
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LiberoBenchError(f"{path} is broken ({error}). Choose another --work") from error
    if not isinstance(there, dict):
        raise LiberoBenchError(f"{path} is broken: it holds no object. Choose another --work")
    return there


def read_episodes(work: Path, say: Callable[[str], None] = lambda line: None) -> dict[Key, LiberoEpisode]:
    """Every finished episode in ``work``; lines that a kill cut short are left out, and their episodes run again."""
    found: dict[Key, LiberoEpisode] = {}
    broken = 0
    for path in sorted(work.glob(EPISODES)):
        for line in path.read_text(errors="replace").splitlines():
            if not line.strip():
                continue
            try:
                values = json.loads(line)
                key = (values.pop("preset"), values.pop("task"), values.pop("trial"))
                values.pop("device", None)
                episode = LiberoEpisode(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
            except (ValueError, KeyError, TypeError, AttributeError):
                broken += 1
                continue
            found.setdefault(key, episode)
    if broken:
        say(f"{broken} unfinished line(s) in {work} left out")
    return found


class Journal:
    """Appends finished episodes to one file, each in a single write that is on the disk before the next begins."""

    def __init__(self, path: Path) -> None:
        self._open = ExitStack()
        self._append = self._open.enter_context(appending(path, durable=True))
        if path.stat().st_size:
            with path.open("rb") as stream:
                stream.seek(-1, os.SEEK_END)
                if stream.read() != b"\n":  # cut short by a kill: what follows must not be glued to it
                    self._append("\n")

    def append(self, key: Key, episode: LiberoEpisode, device: str) -> None:
        """Write one line and wait for the disk."""
        preset, task, trial = key
        record = {"preset": preset, "task": task, "trial": trial, "device": device, **asdict(episode)}
        self._append(json.dumps(record, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._open.close()


# -- processes ---------------------------------------------------------------------------------------------------------


def _run(options: Options, pending: Sequence[Key], say: Callable[[str], None], parts: Parts) -> list[str]:
    """Run ``pending``; returns what went wrong, one line per worker that failed."""
    count = min(options.workers, len(pending))
    context = multiprocessing.get_context("spawn")  # CUDA and EGL do not survive a fork
    stop = context.Event()
    ends, workers = [], []
    # Ctrl-C reaches the whole process group; the workers leave it to us, so that they end between two actions.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for index in range(count):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (options, index, count, pending[index::count], parts, theirs, stop, os.getpid())
            workers.append(context.Process(target=_work, args=arguments, daemon=True))
            workers[-1].start()
            theirs.close()
            ends.append(ours)
    finally:
        signal.signal(signal.SIGINT, before)
    problems: dict[int, str] = {}
    finished, total, listening = 0, len(pending), dict(zip(ends, range(count), strict=True))
    try:
        while listening:
            for end in wait(list(listening), timeout=1.0):
                try:
                    kind, text = end.recv()
                except (EOFError, OSError):
                    del listening[end]
                    continue
                if kind == "done":
                    finished += 1
                    say(f"{finished}/{total} {text}")
                elif kind == "problem":
                    problems[listening[end]] = f"worker {listening[end]}: {text}"
                else:
                    say(text)
    finally:
        stop.set()
        for worker in workers:
            worker.join(GRACE)
            if worker.is_alive():
                worker.terminate()
                worker.join()
    for index, worker in enumerate(workers):
        if worker.exitcode and index not in problems:
            problems[index] = f"worker {index} ended with status {worker.exitcode}"
    return list(problems.values())


def _work(
    options: Options,
    index: int,
    count: int,
    keys: Sequence[Key],
    parts: Parts,
    tell: Connection,
    stop: Any,
    parent: int,
) -> None:
    """One worker process."""

    def stopped() -> bool:
        return stop.is_set() or os.getppid() != parent

    device = options.devices[index % len(options.devices)]
    world = None
    try:
        threads = max(1, len(os.sched_getaffinity(0)) // count)
        driver = parts.driver(options, device, threads)
        for note in driver.notes:
            tell.send(("note", f"worker {index}: {note}"))
        journal = Journal(options.work / EPISODES.replace("*", str(index)))
        left_out = set()
        for key in keys:
            preset, task, trial = key
            if resolve(options.settings(preset), driver.heads).preset != preset:
                if preset not in left_out and index == 0:
                    tell.send(("note", f"{preset} needs a head that is not there; left out"))
                left_out.add(preset)
                continue
            world = world or parts.world(options, index)
            suite, settings = SUITES[options.suite], options.settings(preset)
            episode = run_episode(
                world, driver.policy, settings, suite, task, trial, options.seed, driver.size, stopped
            )  # fmt: skip
            if episode is None:
                break
            journal.append(key, episode, device)
            tell.send(("done", _told(key, episode)))
        journal.close()
    except BrokenPipeError:
        pass  # nobody listens any more
    except Exception as error:  # noqa: BLE001 - becomes the one line that the person at the keyboard sees
        with suppress(OSError):
            tell.send(("problem", f"{type(error).__name__}: {in_words(error) or error}"))
    finally:
        if world is not None:
            world.close()
        tell.close()


def _told(key: Key, episode: LiberoEpisode) -> str:
    preset, task, trial = key
    outcome = "success" if episode.success else episode.error or "failure"
    actions = len(episode.passes)
    passes = f", {sum(episode.passes) / actions:.2f} passes" if actions else ""
    return f"{preset} task {task} trial {trial}: {outcome} after {actions} actions{passes}, {episode.seconds:.0f} s"
