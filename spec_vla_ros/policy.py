"""Policies: observation and instruction in, action out (see :class:`.policy_types.Policy`).

Torch is imported only with :class:`OpenVLAPolicy`, so a node and its tests run without it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ImageError, InstructionError, NonFiniteError
from .policy_types import DecodeReport, DecodeSettings, PolicyResult

if TYPE_CHECKING:
    from .decoding.costs import PassCosts
    from .decoding.drafters import Drafter
    from .decoding.drafters.habits import Habits
    from .decoding.graphs import Pool
    from .decoding.planner import Planner
    from .decoding.verifier import Verifier
    from .kernels.kernel import Kernel
    from .openvla.loader import LoadedModel

HISTORY = 32  # actions that drafters may look back on
CANNED_WIDTH = 2 / 255  # m, rad, gripper units of a bin of canned actions


class OpenVLAPolicy:
    """OpenVLA behind :class:`.policy_types.Policy`; keeps the last actions of the episode for the drafters."""

    def __init__(
        self,
        loaded: LoadedModel,
        trained: Mapping[str, Drafter] | None = None,
        problems: Sequence[str] = (),
        verifier: Verifier | None = None,
        planner: Planner | None = None,
        habits: Habits | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        """``trained``: drafters with a head for this model; ``problems``: what is wrong with heads that are not among
        them (:func:`.decoding.heads.store.trained_drafters`). ``verifier``: one of this model that is set up otherwise
        than usual. ``planner``: of the automatic tree; without one what passes take here is measured when it is first
        needed (:meth:`warm_up` does), or known from an earlier time. ``habits``: are told of every action and stay over
        episodes; without them, and at radius 0, an action depends on its own episode only. ``at_end``: what
        :meth:`close` does.
        """
        import torch

        from .decoding.graphs import Replay, state_of
        from .decoding.verifier import Verifier, cache_slots
        from .kernels import kernel
        from .openvla.device_image import DeviceTransform

        self._torch = torch
        self.loaded, self.trained, self._problems = loaded, dict(trained or {}), tuple(problems)
        self.action_dim = loaded.statistics.action_dim
        self._bin_width = loaded.statistics.bin_width(loaded.tokens.n_bins).tolist()  # m, rad, gripper units
        self._verifier = verifier or Verifier(loaded.model, loaded.tokens, cache_slots(loaded))
        size, channels = loaded.config.image_size, 3 * len(loaded.config.towers)
        device = loaded.model.device
        self._pixels = torch.zeros(1, channels, size, size, device=device)
        on_device = device.type != "cpu" and DeviceTransform.can(loaded.transform.rule)
        self._transform = DeviceTransform(loaded.transform, device) if on_device else None
        # From memory that is not pinned a GPU copies while the host waits.
        self._staged = torch.zeros(self._pixels.shape, pin_memory=True) if device.type == "cuda" else None
        self._see = Replay(lambda: loaded.model.embed_image(self._pixels), self._verifier.pool, "the vision towers")
        self._state_of, self._state_of_kernels = state_of, kernel.state_of
        self._planner, self._own_planner = planner, False
        self._history: deque[tuple[int, ...]] = deque(maxlen=HISTORY)
        self._habits, self._at_end = habits, at_end
        self.identity: dict[str, Any] = {}  # what it is made of, for recordings; whoever loads the files knows
        self._read: tuple[str, str, Any] = ("", "", None)  # instruction, prompt, ids (1, T) where the model is

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """The next action for ``image`` (H, W, 3) uint8 RGB.

        Raises a :class:`.errors.SpecVlaError`, and ``ValueError`` for settings that name an unknown drafter or do
        not fit the action. The history is left as it was when anything is raised.
        """
        from .decoding.decoder import decode_autoregressive, decode_speculative
        from .decoding.drafters import Looked, Observation, make_drafters
        from .decoding.presets import resolve
        from .openvla.devices import wait_for

        began = time.perf_counter()
        # What the device still copies for an inference that was broken off, of whichever policy that has the same
        # verifier or heads, is not to be overwritten by this one. After all others there is nothing left to wait for.
        wait_for(self.loaded.model.device)
        if self.loaded.files is not None:
            self.loaded.files.check(time.monotonic())
        settings = resolve(settings, self.trained)
        tolerance = settings.tolerance(self._bin_width)
        model, drafters = self.loaded.model, make_drafters(settings.drafters, self.trained)
        planner = None
        if settings.decoder == "speculative" and settings.draft_width == 0:
            planner = self.planner(instruction)
        self._show(image)
        prompt_text, ids = self._prompt(instruction)
        preprocessed = time.perf_counter()
        with self._torch.inference_mode():
            watch = _VisionWatch(self._torch, model.device)
            patches = self._see().clone()  # a recorded pass may reuse that memory
            watch.stop()
            text = model.language_model.embed(ids)
            prompt = self._torch.cat([text[:, :1], patches, text[:, 1:]], dim=1)
            if settings.decoder == "autoregressive":
                decoded = decode_autoregressive(self._verifier, prompt, self.action_dim, settings)
            else:
                # Nearly right is not enough at radius 0, and habits are no more than that.
                habits = self._habits if any(tolerance.bins) else None
                decoded = decode_speculative(
                    self._verifier, prompt, tolerance, drafters, settings,
                    Looked(self._history), Observation(patches, text, prompt), planner, habits,
                )  # fmt: skip
        bins = self.loaded.tokens.to_bins(decoded.tokens)
        values = self.loaded.statistics.unnormalise(self.loaded.tokens.centres[bins])
        if not np.isfinite(values).all():
            raise NonFiniteError(f"the action is not finite: {values}")
        self._note(decoded.tokens)
        ended, vision_ms = time.perf_counter(), watch.milliseconds()
        report = replace(
            decoded.report,
            drafters=tuple(drafter.name for drafter in drafters) if settings.decoder == "speculative" else (),
            preprocess_ms=1e3 * (preprocessed - began),
            vision_ms=vision_ms,
            prefill_ms=1e3 * (decoded.first_pass_end - preprocessed) - vision_ms,
            decode_ms=1e3 * (decoded.end - decoded.first_pass_end),
            total_ms=1e3 * (ended - began),
        )
        seen = self.loaded.transform.rule.words(image.shape[1], image.shape[0])
        return PolicyResult(values, np.asarray(decoded.tokens, dtype=np.int64), bins, report, prompt_text, seen)

    def _show(self, image: np.ndarray) -> None:
        """Put the pixels of ``image`` where the towers read them."""
        with self._torch.inference_mode():
            if self._transform is not None:
                self._transform(image, self._pixels)
                return
            pixels = self.loaded.transform(image)[None]
            self._pixels.copy_(pixels if self._staged is None else self._staged.copy_(pixels), non_blocking=True)

    def warm_up(self, instruction: str) -> None:
        """Compile, allocate and record what an inference may need. Nothing is recorded afterwards, while an arm moves:
        what turns out to be missing runs without a recording, and :attr:`recording` says so.
        """
        from .decoding.planner import Planner
        from .decoding.presets import resolve

        for pool in self._pools:
            pool.open()
        with self._torch.inference_mode():
            self._see()
        self._verifier.warm_up()
        settings = DecodeSettings(preset="auto")
        for drafter in self.trained.values():
            drafter.warm_up(resolve(settings, self.trained).draft_width or drafter.widest)
        self.planner(instruction)
        size = self.loaded.config.image_size
        grey = np.full((size, size, 3), 128, dtype=np.uint8)
        habits, self._habits = self._habits, None  # what was said of a grey picture is none
        self.infer(grey, instruction, settings)
        self._habits = habits
        self.reset()
        if self._own_planner:  # what was right for a grey picture says nothing
            self._planner = Planner(self._planner.costs)
        for pool in self._pools:
            pool.close()

    def planner(self, instruction: str) -> Planner:
        """Chooses the tree where its width is automatic. The first call measures what passes take, in a few seconds,
        unless this machine has done so before; ``instruction``: as long as usual.
        """
        if self._planner is None:
            from .decoding.planner import Planner

            self._planner = Planner(self._measured(instruction))
            self._own_planner = True
        return self._planner

    def _measured(self, instruction: str) -> PassCosts:
        from .decoding import costs, timing
        from .decoding.drafters import TRAINING_FREE, Observation, make_drafters

        drafters = make_drafters((*TRAINING_FREE, *self.trained), self.trained)
        with self._torch.inference_mode():
            patches = self._see().clone()
            text = self.loaded.model.language_model.embed(self._prompt(instruction)[1])
            prompt = self._torch.cat([text[:, :1], patches, text[:, 1:]], dim=1)
            about = timing.about(self.loaded, self._verifier, self.trained, -(-prompt.shape[1] // 32) * 32)
            setting = self._verifier, drafters, Observation(patches, text, prompt), self.action_dim
            known = costs.load(about)
            if known is not None and timing.agree(known, *setting):
                return known
            measured = timing.measure(*setting)
        costs.save(about, measured)
        return measured

    def reset(self) -> None:
        """Forget the earlier actions; habits stay."""
        self._history.clear()
        if self._habits is not None:
            self._habits.begin()

    def close(self) -> None:
        """No more is asked."""
        if self._at_end is not None:
            self._at_end()

    def remember(self, tokens: Sequence[int]) -> None:
        """Take (A,) token ids for the action before the next one, as if they had just been inferred.

        Raises :class:`.errors.NonActionTokenError`.
        """
        self.loaded.tokens.to_bins(tokens)
        self._note(tuple(int(token) for token in tokens))

    @property
    def verifier(self) -> Verifier:
        """For another policy of the same model that is never asked at the same time."""
        return self._verifier

    def describe(self) -> dict[str, str]:
        """Model, the folder it was read from (of a hub id with its commit), statistics key, precision and device."""
        model = self.loaded.model
        return {
            "policy": "openvla",
            "model": self.loaded.source,
            "folder": str(self.loaded.folder or ""),
            "unnorm_key": self.loaded.statistics.key,
            "action_dim": str(self.action_dim),
            "device": str(model.device),
            "dtype": model.precision,
            "parameters": str(model.parameter_count),
            "vision_backbone": self.loaded.config.vision_backbone_id,
            "image_resize": self.loaded.transform.rule.resize,
            "picture": self.loaded.transform.rule.words(),
            "draft_heads": ", ".join(sorted(self.trained)) or "none",
            "draft_head_problems": "; ".join(self._problems),
            "cuda_graphs": self.recording,
            "kernels": self._state_of_kernels(self._kernels),
        }

    @property
    def recording(self) -> str:
        """Whether passes and drafts are replayed from recordings: "on", "off", or what is wrong."""
        return self._state_of(self._pools)

    @property
    def _pools(self) -> list[Pool]:
        return [self._verifier.pool, *(drafter.pool for drafter in self.trained.values() if drafter.pool is not None)]

    @property
    def _kernels(self) -> list[Kernel]:
        heads = (drafter.kernel for drafter in self.trained.values() if drafter.kernel is not None)
        return [*self.loaded.model.language_model.kernels.values(), *heads]

    def _note(self, tokens: tuple[int, ...]) -> None:
        self._history.append(tokens)
        if self._habits is not None:
            self._habits.learn(self.loaded.tokens.to_bins(tokens))

    def _prompt(self, instruction: str) -> tuple[str, Any]:
        """Prompt in words and as ids (1, T) where the model is; an instruction usually stays the same for a whole
        episode, and to bring ids to a GPU is to wait for it.
        """
        if self._read[0] != instruction or self._read[2] is None:
            reader = self.loaded.prompt
            ids = self._torch.tensor([reader.ids(instruction)], device=self.loaded.model.device)
            self._read = (instruction, reader.text(instruction), ids)
        return self._read[1:]


class _VisionWatch:
    """Times the vision towers; on a GPU by events, so that measuring does not stall the passes queued behind."""

    def __init__(self, torch, device) -> None:
        self._events = None
        if device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            self._events[0].record()
        self._began = time.perf_counter()

    def stop(self) -> None:
        """The last operation of the towers has been issued."""
        if self._events:
            self._events[1].record()
        self._ended = time.perf_counter()

    def milliseconds(self) -> float:
        """Duration; to be asked once the passes behind are done."""
        if self._events:
            return self._events[0].elapsed_time(self._events[1])
        return 1e3 * (self._ended - self._began)


Step = Sequence[float] | np.ndarray | Exception | Callable[[np.ndarray, str], Sequence[float]]


class ScriptedPolicy:
    """Plays back a script, for tests and for bringing up an arm without a model.

    ``steps``: one entry per inference, repeated from the start at the end when ``repeat`` is set, else the last
    one stays. An entry is an action (A,) in action units (NaN allowed, to test those who receive it), an exception
    to raise, or a function of image and instruction that returns an action.
    ``delay``: seconds that an inference takes, slept by ``sleep``.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        action_dim: int = 7,
        delay: float = 0.0,
        repeat: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not steps:
            raise ValueError("a scripted policy needs at least one step")
        self.action_dim, self.delay = action_dim, delay
        self.inferences, self.resets = 0, 0
        self.instructions: list[str] = []
        self._steps, self._repeat, self._sleep, self._next = list(steps), repeat, sleep, 0

    def infer(self, image: np.ndarray, instruction: str, settings: DecodeSettings) -> PolicyResult:
        """The next entry of the script; raises what the script says, and errors for unusable input."""
        began = time.perf_counter()
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ImageError(f"expected (H, W, 3) uint8 RGB, got {getattr(image, 'shape', type(image).__name__)}")
        if not instruction.strip():
            raise InstructionError("the instruction is empty")
        self.inferences += 1
        self.instructions.append(instruction)
        if self.delay:
            self._sleep(self.delay)
        step = self._steps[self._next % len(self._steps) if self._repeat else min(self._next, len(self._steps) - 1)]
        self._next += 1
        if isinstance(step, Exception):
            raise step
        values = np.asarray(step(image, instruction) if callable(step) else step, dtype=np.float64)
        if values.shape != (self.action_dim,):
            raise ValueError(f"the scripted action has shape {values.shape}, expected ({self.action_dim},)")
        bins = np.round((np.clip(np.nan_to_num(values), -1, 1) + 1) * 127.5 - 0.5).clip(0, 254).astype(np.int64)
        report = DecodeReport(
            decoder=settings.decoder,
            verifier_passes=1,
            accepted_per_pass=(0,),
            drafted_per_pass=(0,),
            drafter_per_pass=("",),
            token_source=("verifier",) * self.action_dim,
            max_accepted_distance=0,
            tolerance=settings.tolerance((CANNED_WIDTH,) * self.action_dim),
            draft_depth=settings.draft_depth,
            emit=settings.emit,
            draft_width=settings.draft_width,
            drafters=settings.drafters,
            total_ms=1e3 * (time.perf_counter() - began),
        )
        return PolicyResult(values, 31999 - bins, bins, report)

    def reset(self) -> None:
        """Count the reset; the script goes on where it was, as the arm does."""
        self.resets += 1

    def describe(self) -> dict[str, str]:
        """Name and length of the script."""
        return {"policy": "scripted", "steps": str(len(self._steps)), "action_dim": str(self.action_dim)}
