"""From parameters to a policy. Runs in the worker's thread; torch is imported here and not before."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spec_vla_ros.errors import NonActionTokenError
from spec_vla_ros.motion.data_sets import action_period
from spec_vla_ros.outputs import OutputError, require
from spec_vla_ros.policy import ScriptedPolicy
from spec_vla_ros.policy_types import Policy

from .parameters import Fixed

if TYPE_CHECKING:
    from spec_vla_ros.decoding.drafters.habits import Habits
    from spec_vla_ros.openvla.loader import LoadedModel

_log = logging.getLogger(__name__)
HANG = 3.0  # s that a rehearsed hang lasts
CENTIMETRE = 0.01  # m; the canned moves are small enough to watch and large enough to see
WARM_UP_INSTRUCTION = "pick up the block"


def make_policy(fixed: Fixed) -> Policy:
    """Load and warm up the policy that ``fixed`` asks for. Raises a :class:`SpecVlaError` that says what is wrong."""
    if fixed.policy == "scripted":
        return ScriptedPolicy(script(fixed.script), delay=fixed.script_delay, repeat=True)
    return load_openvla(fixed)


def script(name: str) -> list[Any]:
    """Canned actions (7,) for bringing up an arm without a model.

    "axes": 1 cm there and back along x, y and z, then 0.1 rad about each, with the gripper opening and closing.
    A frame mistake is visible before any model has a say. "still": zeros. "nan": rehearses a refused action.
    "rehearse": the moves of "axes", and an instruction out of :data:`REHEARSALS` makes that fault happen.
    """
    if name == "still":
        return [np.array([0, 0, 0, 0, 0, 0, 1.0])]
    if name == "nan":
        return [np.full(7, np.nan)]
    actions = []
    for axis in range(6):
        for sign in (1, -1):
            action = np.zeros(7)
            action[axis] = sign * (CENTIMETRE if axis < 3 else 0.1)
            action[6] = float(sign > 0)
            actions.append(action)
    return [_rehearsed(action) for action in actions] if name == "rehearse" else actions


def _rehearsed(action: np.ndarray) -> Callable[[np.ndarray, str], np.ndarray]:
    def step(image: np.ndarray, instruction: str) -> np.ndarray:
        del image
        rehearsal = REHEARSALS.get(instruction)
        return action if rehearsal is None else rehearsal()

    return step


def _raise(error: Exception) -> np.ndarray:
    raise error


def _hang() -> np.ndarray:
    time.sleep(HANG)
    raise RuntimeError(f"rehearsed: an inference of {HANG} s was not stopped; set inference_timeout below that")


# What an instruction can ask of the script "rehearse", so that an operator sees each fault of the policy once, with
# the own arm and the own tools, before a model brings it about.
REHEARSALS: dict[str, Callable[[], np.ndarray]] = {
    "rehearse raise": lambda: _raise(RuntimeError("rehearsed")),
    "rehearse out of memory": lambda: _raise(MemoryError("rehearsed")),
    "rehearse nan": lambda: np.full(7, np.nan),
    "rehearse infinity": lambda: np.full(7, np.inf),
    "rehearse token": lambda: _raise(NonActionTokenError("rehearsed: token 5 at position 2")),
    "rehearse hang": _hang,
}


def load_openvla(fixed: Fixed) -> Policy:
    """The model, self-checked by its loader and warmed up: that must not happen while the dead-man watches."""
    from spec_vla_ros.decoding.heads.identity import identity
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.openvla.devices import use_threads
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy

    use_threads(fixed.cpu_threads)
    loaded = load_model(
        fixed.model,
        device=fixed.device,
        dtype=fixed.dtype,
        unnorm_key=fixed.unnorm_key or None,
        revision=fixed.revision or None,
        base_model=fixed.base_model,
        centre_crop=fixed.centre_crop,
        image_resize=fixed.image_resize,
    )
    folder = heads_folder(loaded, fixed.draft_heads)
    heads, problems = trained_drafters(loaded, folder)
    habits, save = _habits(loaded, fixed)
    policy = OpenVLAPolicy(loaded, heads, problems, habits=habits, at_end=save)
    if fixed.record_to:
        policy.identity = identity(loaded, folder, heads)
    policy.warm_up(WARM_UP_INSTRUCTION)
    return policy


def _habits(loaded: LoadedModel, fixed: Fixed) -> tuple[Habits, Callable[[], None] | None]:
    """What the model said at earlier times, and how that is saved in the end; raises ``ValueError`` for a file that
    could not be written.
    """
    from spec_vla_ros.decoding import habits_file
    from spec_vla_ros.decoding.drafters.habits import Habits

    habits = Habits(loaded.statistics.action_dim, loaded.tokens.bins)
    if not fixed.habits_file:
        return habits, None
    path = Path(fixed.habits_file).expanduser()
    try:
        require(path)
    except OutputError as error:
        raise ValueError(f"habits_file: {error}") from error
    seconds = fixed.step_dt or action_period(loaded.statistics.key)
    about = habits_file.about(loaded, seconds)
    try:
        habits = habits_file.load(path, about)
    except habits_file.HabitsError as error:
        _log.warning(f"habits begin anew, and the file becomes {path.name}{habits_file.REFUSED}: {error}")
    return habits, functools.partial(habits_file.save, path, about, habits)
