"""Draft from what the camera shows, before the verifier has looked at it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from spec_vla_ros.decoding.deferred import Later
from spec_vla_ros.decoding.graphs import Pool, Replay
from spec_vla_ros.decoding.heads.vision_head import NO_ACTION, Steps, VisionHead
from spec_vla_ros.kernels.kernel import Kernel
from spec_vla_ros.kernels.operators import beam_step
from spec_vla_ros.kernels.sizes import WIDEST
from spec_vla_ros.openvla.action_tokens import ActionTokens

from .base import DraftContext, Drafter, Observation
from .beams import grown, try_kernel, windows_of
from .windows import topmost_id


class Vision(Drafter):
    """Branches of a trained :class:`VisionHead`.

    Candidates of a dimension are distinct modes, spaced by the acceptance radius: the best bin counts with the
    probability of everything that would be accepted in its place, then that window is out of the race. A tree of
    neighbouring bins would spend its rows on what relaxed acceptance forgives anyway. Branches are beams over these.
    After a partial hit it continues from the tokens that were emitted. Costs an encoder and a small step per dimension:
    on a CPU about half of the small model's pass over the prompt, beside one of 7B little.

    ``fixed_shapes``: fill instructions up to one length and draft to the end of the action always, by default on CUDA
    only; encoder and beams are then recorded as CUDA graphs, because six small steps are a hundred launches.
    Of fewer branches than were recorded the best of those are given, of more nothing is recorded. Where ids may be
    deferred they stay on the device, so that nobody waits for them.

    ``fused``: make of each step's logits the next beams by a kernel of our own, by default on CUDA where it runs
    (:class:`.kernels.kernel.Kernel`); more branches than it knows are made by plain torch.
    """

    name: ClassVar[str] = "vision"
    widest: ClassVar[int] = WIDEST
    expected: ClassVar[tuple[float, float]] = (0.7, 0.9)

    def __init__(self, head: VisionHead, *, fixed_shapes: bool | None = None, fused: bool | None = None) -> None:
        config, device = head.config, head.out.weight.device
        self.head, self._steps = head, Steps(head)
        self._fixed = device.type == "cuda" if fixed_shapes is None else fixed_shapes
        # Each width is a recording of its own. Where nothing is recorded eight beams cost a CPU twice as much as two.
        self.one_width = self._fixed
        self.pool = Pool(device, self._fixed)
        self._widths: tuple[int, ...] = ()  # that are recorded
        self._observation: Observation | None = None
        self._look, self._beams = Replay(self._encode, self.pool, "the look of the vision head"), {}
        self._memory: tuple[list[Any], Tensor | None] | None = None
        # What encoder and beams read: patches, text, which rows of it there are, the id of each bin by dimension, and
        # three times A numbers. The ids of the topmost bins change, and travel with these.
        like = {"device": device, "dtype": head.out.weight.dtype}
        self._patches = torch.zeros(1, config.patches, config.hidden, **like)
        self._text = torch.zeros(1, config.text_rows, config.hidden, **like)
        self._text_mask = torch.zeros(1, config.text_rows, **like) if self._fixed else None  # numbers to add
        self._host = torch.zeros(4, config.action_dim, dtype=torch.long, pin_memory=device.type == "cuda")
        told = torch.zeros(config.bins + 3, config.action_dim, dtype=torch.long, device=device)
        self._ids, self._numbers, self._told = told[: config.bins], told[config.bins :], told[config.bins - 1 :]
        self._tokens: ActionTokens | None = None  # that the ids are of
        self._start = torch.full((1, 1), config.bins, device=device)
        self._one = torch.ones(1, device=device)  # the score of no guess yet
        trial = functools.partial(try_kernel, config.bins, device, like["dtype"])
        self.kernel = Kernel("beam_step", device, trial, fused)
        # What acceptance forgives, made anew where the radii are others than they were.
        self._radii: tuple[int, ...] = ()
        self._windows = torch.zeros(2, config.action_dim, config.bins, config.bins, device=device)

    def begin(self, observation: Observation | None) -> None:
        """Remember the image; it is encoded when the first draft is asked for."""
        self._observation, self._memory = observation, None

    @torch.inference_mode()
    def warm_up(self, width: int) -> None:
        """The beams from every dimension on, one and ``width`` of them; exact shapes have nothing to record."""
        if self._fixed:
            self._memory = self._look()
            dimensions = self.head.config.action_dim - 1
            self._widths = tuple(sorted({1, width}))
            for first in range(dimensions):
                for beams in self._widths:
                    self._drafting(first, dimensions - first, beams)()
            self.begin(None)

    @torch.inference_mode()
    def propose(self, context: DraftContext) -> Sequence[Sequence[int | Later]]:
        """Up to ``context.width`` branches, the likeliest first; nothing where there is no image. Ids that are deferred
        are valid until the next call.
        """
        if self._observation is None:
            return []
        self._tell(context)
        if self._memory is None:
            self._show(self._observation)
            self._memory = self._look()
        first, count, width = context.first, context.count, context.width
        if self._fixed:
            count = self.head.config.action_dim - 1 - first
            width = next((beams for beams in self._widths if beams >= width), width)
        ids = self._drafting(first, count, width)()
        # A bin is a place in a row of the head's probabilities, so wherever the head has no more bins than there are,
        # every id is an action token.
        if self._fixed and context.deferred is not None and self.head.config.bins <= context.tokens.bins:
            return context.deferred.put(ids, context.width, context.count)
        return ids[: context.width, : context.count].tolist()

    def _tell(self, context: DraftContext) -> None:
        """Ids of the topmost bins, the action before, what is emitted of this one, and the radii, in one transfer."""
        if self._tokens != context.tokens:
            self._tokens, lowest = context.tokens, context.tokens.vocab_end - self.head.config.bins
            self._ids.copy_(torch.arange(lowest, context.tokens.vocab_end, device=self._ids.device).flip(0)[:, None])
        self._host.zero_()
        self._host[0] = context.tokens.vocab_end - self.head.config.bins
        if self.head.config.bins == context.tokens.bins:
            first, end = context.first, context.first + context.count
            self._host[0, first:end] = torch.tensor([topmost_id(dimension, context) for dimension in range(first, end)])
        self._host[1] = NO_ACTION
        if context.history:
            self._host[1] = torch.from_numpy(context.tokens.to_bins(context.history[-1]))
        if context.emitted:
            self._host[2, : context.first] = torch.from_numpy(context.tokens.to_bins(list(context.emitted)))
        self._host[3] = torch.tensor(context.radii)
        self._told.copy_(self._host, non_blocking=True)
        if self._radii != tuple(context.radii):
            self._radii = tuple(context.radii)
            self._windows.copy_(windows_of(self._numbers[2], self.head.config.bins))

    def _show(self, observation: Observation) -> None:
        """The patches and the instruction without BOS; of a longer one its end."""
        text = observation.text[:, 1:][:, -self.head.config.text_rows :].to(self._text.dtype)
        self._patches.copy_(observation.patches)
        if self._text_mask is None:
            self._text = text
            return
        self._text[:, : text.shape[1]] = text
        self._text[:, text.shape[1] :].zero_()
        self._text_mask[:, : text.shape[1]].zero_()
        self._text_mask[:, text.shape[1] :].fill_(float("-inf"))

    def _encode(self) -> tuple[list[Any], Tensor | None]:
        return self.head.encode(self._patches, self._text, self._numbers[:1], self._text_mask)

    def _drafting(self, first: int, count: int, width: int) -> Callable[[], Tensor]:
        function = functools.partial(self._say, first, count, width)
        if not self._fixed:
            return function
        if (first, count, width) not in self._beams:
            name = f"{width} branches of the vision head from dimension {first} on"
            self._beams[first, count, width] = Replay(function, self.pool, name)
        return self._beams[first, count, width]

    def _say(self, first: int, count: int, width: int) -> Tensor:
        """Ids (branches, count) of what :meth:`_draft` finds."""
        return self._ids[:, first : first + count].gather(0, self._draft(first, count, width))

    def _draft(self, first: int, count: int, width: int) -> Tensor:
        """Bins (branches, count) of the dimensions from ``first`` on. Reads its buffers only."""
        memory, mask = self._memory
        radii, (within, outside) = self._numbers[2], self._windows
        fused = self.kernel.on and width <= WIDEST
        chains = torch.cat([self._start, self._numbers[1:2, :first]], dim=1) if first else self._start
        score, last = self._one, first + count - 1
        for dimension in range(first, first + count):
            logits = self._steps(memory, chains, mask)
            if fused:
                score, chains = beam_step(logits, score, radii, dimension, chains, width)
            else:  # the likeliest first in the end; before that any order will do
                windows = within[dimension], outside[dimension]
                score, chains = grown(logits, score, *windows, chains, width, in_order=dimension == last)
        return chains[:, first + 1 :]
