"""What each part of an action asks of a GPU, counted at the shapes of OpenVLA-7B: :mod:`.launch_counter` says how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spec_vla_ros.decoding.acceptance import far_apart
from spec_vla_ros.decoding.deferred import Deferred
from spec_vla_ros.decoding.drafters import Drafter
from spec_vla_ros.decoding.drafters.base import DraftContext, Observation
from spec_vla_ros.decoding.drafters.eagle import NODES, Eagle, eagle_slots
from spec_vla_ros.decoding.drafters.vision import Vision
from spec_vla_ros.decoding.fixed_shapes import TREE_LEVELS
from spec_vla_ros.decoding.outcome import PARTS, outcome_of
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.timing import Settled
from spec_vla_ros.decoding.tree import TREE_ROWS, DraftTree
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.openvla.loader import LoadedModel
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

from .launch_counter import DEVICE, Count, counting
from .replayed import RecordedLuck
from .shapes import eagle_head, random_model, vision_head

TEXT = 32  # prompt ids that a usual instruction is filled up to
BRANCHES = 8  # of a head
# What is accepted in each pass of the action that is counted: the usual one of each preset on the table top.
ACTIONS = {"autoregressive": (), "spec_vla": (0, 2, 2), "training_free": (1, 4), "fastest": (6,)}

Part = tuple[str, int | None, Callable[[], Any]]


def measure(config: OpenVLAConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each part, and for a whole action of each of ``ACTIONS``; ``config``: whose shapes. With our own
    kernels, as on CUDA where Triton is installed.
    """
    loaded = random_model(config, DEVICE, "bfloat16", kernels=True)
    heads = {
        "vision": Vision(vision_head(loaded), fixed_shapes=True, fused=True),
        "eagle": Eagle(eagle_head(loaded), loaded.model, eagle_slots(loaded), fixed_shapes=True),
    }
    rows = []
    for name, size, work in (*parts(loaded, **heads), *actions(loaded, heads)):
        row = _row(name, size, counted(work, loaded.tokens.first))
        say(line(row))
        rows.append(row)
    return rows


def counted(work: Callable[[], Any], token: int = 0) -> Count:
    """What ``work`` asks of the device, where it has been done before; the host reads ``token`` wherever it reads."""
    with torch.inference_mode():
        for _ in range(2):
            with counting(partial(_heard, token)) as count:
                work()
    return count


def _heard(token: int, asked: Tensor) -> Tensor:
    """Behind the outcome of a pass with a tree of the eagle head it also reads who is before whom: nobody in one level,
    else every second node before the next one.
    """
    found = torch.full(asked.shape, token, dtype=asked.dtype)
    for rows, nodes, levels in ((TREE_ROWS, NODES, 2), (BRANCHES, BRANCHES, 1)):
        if found.numel() == PARTS * (rows + 1) + 3 * nodes:
            numbers = torch.arange(nodes)
            found[-2 * nodes : -nodes] = numbers * (numbers % levels)
    return found


def parts(loaded: LoadedModel, vision: Vision, eagle: Eagle) -> Iterator[Part]:
    """Name, rows and the work of each part of an action; passes with what takes them to the device and back."""
    model, config = loaded.model, loaded.config
    slots, patches = cache_slots(loaded), config.towers[0].patches
    verifier = Verifier(model, loaded.tokens, slots, fixed_shapes=True, graphs=False)
    prompt = patches + TEXT
    size, channels = config.image_size, 3 * len(config.towers)
    pixels = torch.zeros(1, channels, size, size, device=DEVICE)
    yield "towers and projector", patches, lambda: model.embed_image(pixels)

    rows = torch.zeros(1, prompt, config.llama.hidden_size, device=DEVICE, dtype=model.dtype)
    token, radii = loaded.tokens.first, (9,) * TREE_LEVELS
    tree = partial(DraftTree.filled, token=token, depth=TREE_LEVELS)
    for settled, start, drafted in ((rows, 0, 0), (rows, 0, TREE_ROWS), (token, prompt, 0), (token, prompt, 32)):
        name = ("prompt pass" if settled is rows else "token pass") + (", with drafts" if drafted else "")
        count = drafted + (prompt if settled is rows else 1)
        yield name, count, lambda s=settled, at=start, n=drafted: verifier.run(s, at, tree(n), radii)
    logits = torch.zeros(TREE_ROWS + 1, config.llama.vocab_size, device=DEVICE)
    apart = far_apart(loaded.tokens, DEVICE)
    yield "choices and margins", TREE_ROWS + 1, lambda: outcome_of(logits, loaded.tokens, apart)
    branch = [0, *range(TREE_LEVELS, 2 * TREE_LEVELS - 1)]  # of two that begin alike the second
    yield "moving a branch", TREE_LEVELS, lambda: verifier.cache.move([prompt + node for node in branch], prompt)

    text = torch.zeros(1, TEXT, config.llama.hidden_size, device=DEVICE, dtype=model.dtype)
    observation = Observation(rows[:, :patches], text, rows)

    def draft(width: int) -> None:
        vision.propose(DraftContext(0, TREE_LEVELS, width, (*radii, 0), loaded.tokens, deferred=Deferred()))

    def look() -> None:
        vision.begin(observation)
        draft(BRANCHES)

    yield "vision head, one look", None, look
    yield f"vision head again, {BRANCHES} branches", None, lambda: draft(BRANCHES)
    yield "vision head again, 1 branch", None, lambda: draft(1)

    def grow() -> None:
        settled = {"states": Settled(rows), "rows": (token,), "deferred": Deferred(shapes=True)}
        eagle.begin(observation)
        eagle.propose(DraftContext(1, TREE_LEVELS - 1, BRANCHES, (*radii, 0), loaded.tokens, **settled))

    yield "eagle head, prompt and tree", prompt, grow


def actions(loaded: LoadedModel, heads: dict[str, Drafter]) -> Iterator[Part]:
    """Whole actions, from the image to the tokens, that are accepted as ``ACTIONS`` say."""
    image, luck = np.zeros((480, 640, 3), dtype=np.uint8), RecordedLuck(loaded.tokens)
    verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), fixed_shapes=True, graphs=False, judge=luck)
    for preset, accepted in ACTIONS.items():
        policy = OpenVLAPolicy(loaded, heads, verifier=verifier, planner=Planner.steady())

        def act(policy: OpenVLAPolicy = policy, preset: str = preset, accepted: tuple[int, ...] = accepted) -> None:
            luck.replay(accepted)
            policy.infer(image, EXAMPLE_INSTRUCTIONS[0], DecodeSettings(preset=preset))

        yield f"one action, {preset}", None, act


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    size = f"{row['rows']} rows" if row["rows"] else ""
    text = f"{row['part']:<32} {size:>9} {row['kernels']:>6} kernels {row['gemm_gb']:8.3f} GB in products "
    return text + f"{row['elementwise_gb']:7.3f} GB elsewhere  {row['host_waits']} waits"


def _row(name: str, size: int | None, count: Count) -> dict[str, Any]:
    return {
        "part": name,
        "rows": size,
        "kernels": count.kernels,
        "gemm_gb": round(count.gemm_bytes / 1e9, 4),
        "elementwise_gb": round(count.elementwise_bytes / 1e9, 4),
        "host_waits": len(count.waits),
        "waits": count.waits,
        "by_operation": dict(sorted(count.names.items(), key=lambda item: -item[1])),
    }
