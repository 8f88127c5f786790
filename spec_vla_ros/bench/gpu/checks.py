"""Is it right? The same questions, put to two ways of computing.

Two kinds of questions. A model with random weights of the shapes that count is asked for its choices at every row of
passes with trees: no word means anything, so near ties are common and every rounding shows. The small model of
the table top decodes whole actions with every preset: whether they differ is what an arm would notice. Pictures are
drawn here, because nothing that renders need be installed.

``ok``: logits no further apart than the arithmetic explains (``allowed``, of their root mean square), and every choice
equal whose lead was larger than that. None where nobody can say what is allowed: a precision against another.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spec_vla_ros.bench.decoding.compiled import compile_passes
from spec_vla_ros.bench.decoding.shapes import random_model
from spec_vla_ros.decoding.acceptance import bin_distance
from spec_vla_ros.decoding.drafters import TRAINED
from spec_vla_ros.decoding.fixed_shapes import TREE_LEVELS
from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
from spec_vla_ros.decoding.outcome import Question
from spec_vla_ros.decoding.planner import Planner
from spec_vla_ros.decoding.presets import PRESETS
from spec_vla_ros.decoding.tree import TREE_ROWS, DraftTree
from spec_vla_ros.decoding.verifier import Verifier, cache_slots
from spec_vla_ros.installed import model_folder
from spec_vla_ros.openvla.config import OpenVLAConfig
from spec_vla_ros.openvla.example import EXAMPLE_INSTRUCTIONS
from spec_vla_ros.openvla.loader import LoadedModel, load_model
from spec_vla_ros.policy import OpenVLAPolicy
from spec_vla_ros.policy_types import DecodeSettings

ALLOWED = {"float32": 1e-4, "bfloat16": 0.03, "float16": 0.01}  # of the logits' root mean square, root mean square
LEAD = 8  # times as far may single logits be apart
TREES = (TREE_ROWS, 0, 8, 32)  # drafted rows of the passes: one over the prompt, then behind it
LAYERS = 4  # that a host computes in float32 in a moment
PICTURES = 24  # that the small model decodes
PICTURE = (240, 320)  # px
TASKS = ("pick up the red block", "touch the blue block", "pick up the green block")
SEED = 7

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """How passes are run: arguments of :class:`.verifier.Verifier`. ``compiled``: by :mod:`..decoding.compiled`."""

    words: str
    fixed_shapes: bool | None = None
    graphs: bool = True
    compiled: bool = False

    def verifier(self, loaded: LoadedModel) -> Verifier:
        """A new one of ``loaded``."""
        slots = cache_slots(loaded)
        made = Verifier(loaded.model, loaded.tokens, slots, fixed_shapes=self.fixed_shapes, graphs=self.graphs)
        if self.compiled:
            compile_passes(made)
        return made


PLAIN = Way("rows as many as there are, eager", fixed_shapes=False, graphs=False)
FIXED = Way("fixed shapes, eager", fixed_shapes=True, graphs=False)
RECORDED = Way("fixed shapes, recorded", fixed_shapes=True)
COMPILED = Way("fixed shapes, compiled", fixed_shapes=True, compiled=True)


def device_against_host(config: OpenVLAConfig, device: torch.device) -> Rows:
    """Float32 here and there, the first ``LAYERS`` layers; TF32, which is no float32, switched off."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    less = _first_layers(config)
    host = random_model(less, torch.device("cpu"), "float32")
    expected = answers(host, PLAIN)
    host.model.to(device)
    host.model.language_model.fuse()  # what was one matrix has become several
    host.model.language_model.use_kernels()
    names = f"float32, {device.type}", "float32, cpu"
    rows = [compared(*names, answers(host, RECORDED), expected, "float32")]
    del host
    return rows + actions_compared(names, ("float32", device, RECORDED), ("float32", torch.device("cpu"), PLAIN))


def recorded_against_eager(config: OpenVLAConfig, device: torch.device) -> Rows:
    """A recording does what was recorded: bit for bit. On a CPU nothing is recorded, and both are eager."""
    loaded = random_model(config, device, "bfloat16")
    names = (RECORDED.words if device.type == "cuda" else f"{RECORDED.words} where it can be", FIXED.words)
    rows = [compared(*names, answers(loaded, RECORDED), answers(loaded, FIXED), "bfloat16", allowed=0.0)]
    del loaded
    return rows + actions_compared(names, ("bfloat16", device, RECORDED), ("bfloat16", device, FIXED))


def fused_against_plain(config: OpenVLAConfig, device: torch.device) -> Rows:
    """Joined matrices, our own kernels or rotation by products, and few shapes, against none of them."""
    rows = []
    for precision, shapes in (("float32", _first_layers(config)), ("bfloat16", config)):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        loaded = random_model(shapes, device, precision)
        fused = answers(loaded, RECORDED)
        for layer in loaded.model.language_model.model.layers:
            layer.self_attn.qkv = layer.mlp.gate_up = None
        names = f"fused, {precision}", f"plain, {precision}"
        rows.append(compared(*names, fused, answers(loaded, PLAIN), precision))
        del loaded, fused
        _tidy()
    return rows


def compiled_against_plain(config: OpenVLAConfig, device: torch.device) -> Rows:
    """``torch.compile`` of the passes, two layers, against the same passes as they are."""
    less = _first_layers(config, 2)
    loaded = random_model(less, device, "bfloat16")
    names = COMPILED.words, FIXED.words
    return [compared(*names, answers(loaded, COMPILED), answers(loaded, FIXED), "bfloat16")]


def precision_against_reference(config: OpenVLAConfig, device: torch.device, precision: str, reference: str) -> Rows:
    """The same weights in ``precision``: choices at every row, then whole actions."""
    found = {}
    for name in (reference, precision):
        loaded = random_model(config, device, name)
        found[name] = answers(loaded, RECORDED)
        del loaded
        _tidy()
    rows = [compared(precision, reference, found[precision], found[reference], None)]
    return rows + actions_compared((precision, reference), (precision, device, RECORDED), (reference, device, RECORDED))


@torch.inference_mode()
def answers(loaded: LoadedModel, way: Way) -> list[Tensor]:
    """Logits (rows, vocabulary), float32 on the host, of the last settled row and every node in each pass of ``TREES``.

    Nothing drafted is kept, so that a choice that tips does not change what is asked next.
    """
    verifier, model, tokens = way.verifier(loaded), loaded.model, loaded.tokens
    generator, found = np.random.default_rng(SEED), []
    size, channels = loaded.config.image_size, 3 * len(loaded.config.towers)
    pixels = generator.normal(0, 1, (1, channels, size, size)).astype(np.float32)
    ids = torch.tensor([loaded.prompt.ids(EXAMPLE_INSTRUCTIONS[0])], device=model.device)
    prompt = model.prompt_embeds(model.embed_image(torch.from_numpy(pixels).to(model.device)), ids)
    settled, start = prompt, 0
    for drafted in TREES:
        tree = _random_tree(drafted, tokens.first, tokens.vocab_end, generator)
        for _ in range(2):  # a recording is made in the first and replayed in the second
            answer = verifier.shapes.run(Question(settled, start, tree, (0,) * TREE_LEVELS))
        count = 1 if isinstance(settled, int) else settled.shape[1]
        kept = [count - 1, *range(answer.nodes_at, answer.nodes_at + drafted)]
        found.append(model.language_model.logits(answer.hidden[0, kept]).float().cpu())
        start += count
        settled = int(generator.integers(tokens.first, tokens.vocab_end))
    return found


def compared(
    name: str, other: str, found: Sequence[Tensor], expected: Sequence[Tensor], precision: str | None,
    allowed: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A row: how many choices are equal, and by how much the expected one led where they are not."""
    allowed = ALLOWED[precision] if allowed is None and precision is not None else allowed
    ours, theirs = torch.cat(list(found)), torch.cat(list(expected))
    scale = float(theirs.square().mean().sqrt())
    apart = float((ours - theirs).square().mean().sqrt()) / scale
    best = theirs.topk(2, dim=1).values
    lead = (best[:, 0] - best[:, 1]) / scale
    other_choice = ours.argmax(1) != theirs.argmax(1)
    largest = float(lead[other_choice].max()) if bool(other_choice.any()) else 0.0
    finite = bool(ours.isfinite().all() and theirs.isfinite().all())
    ok = None
    if allowed is not None:
        ok = finite and apart <= allowed and largest <= LEAD * allowed
    return {
        "what": "choices, random weights", "ours": name, "theirs": other, "count": len(ours),
        "equal": int((~other_choice).sum()), "apart": float(f"{apart:.3g}"), "largest_lead": float(f"{largest:.3g}"),
        "allowed": allowed, "finite": finite, "ok": ok if finite else False,
    }  # fmt: skip


def actions_compared(
    names: tuple[str, str], ours: tuple[str, torch.device, Way], theirs: tuple[str, torch.device, Way]
) -> Rows:
    """Whole actions of the small model, a row per preset. Two ways that both compute in float32 or bit for bit must
    agree; relaxed presets may pass a tie on, so that only strict rows are held to it.
    """
    found, expected, rows = _actions(*ours), _actions(*theirs), []
    exact = ours[0] == theirs[0] and ours[1].type == theirs[1].type
    for preset in found:
        pairs = list(zip(found[preset], expected[preset], strict=True))
        gaps = np.array([[bin_distance(a, b, _tokens()) for a, b in zip(x, y, strict=True)] for x, y in pairs])
        equal = int((gaps == 0).all(1).sum())
        rows.append(
            {
                "what": f"actions, {preset}", "ours": names[0], "theirs": names[1], "count": len(pairs),
                "equal": equal, "bins_mean": round(float(gaps[:, :-1].mean()), 4),
                "bins_max": int(gaps[:, :-1].max()), "grippers": int((gaps[:, -1] > 127).sum()),
                "ok": equal == len(pairs) if exact else None,
            }
        )  # fmt: skip
    return rows


def _actions(precision: str, device: torch.device, way: Way) -> dict[str, list[list[int]]]:
    """Tokens of each action by preset."""
    loaded = load_model(model_folder(), device=str(device), dtype=precision)
    trained, problems = trained_drafters(loaded, heads_folder(loaded))
    if problems or set(trained) != set(TRAINED):
        raise RuntimeError(f"the small model's heads cannot be used: {problems}")
    verifier, found = way.verifier(loaded), {}
    for preset in PRESETS:
        policy = OpenVLAPolicy(loaded, trained, verifier=verifier, planner=Planner.steady())
        settings = DecodeSettings(preset=preset)
        found[preset] = [policy.infer(image, text, settings).tokens.tolist() for image, text in pictures()]
    del loaded, trained, verifier, policy
    _tidy()
    return found


def pictures() -> Iterator[tuple[np.ndarray, str]]:
    """``PICTURES`` drawn scenes (H, W, 3) uint8, a table with blocks that move a little, each with an instruction."""
    generator = np.random.default_rng(SEED)
    colours = np.array([[190, 40, 40], [40, 70, 190], [40, 160, 60]])
    height, width = PICTURE
    for number in range(PICTURES):
        scene = np.full((height, width, 3), 150, dtype=np.int64) + np.linspace(0, 40, height, dtype=int)[:, None, None]
        for place, colour in enumerate(colours):
            y, x = 120 + 30 * place, 60 + 80 * place + 3 * (number % 8)
            scene[y : y + 28, x : x + 28] = colour
        scene += generator.integers(-6, 7, scene.shape)
        yield scene.clip(0, 255).astype(np.uint8), TASKS[number % len(TASKS)]


def _tokens() -> Any:
    from spec_vla_ros.openvla.action_tokens import ActionTokens
    from spec_vla_ros.openvla.checkpoint import read_checkpoint

    config = read_checkpoint(model_folder()).config
    return ActionTokens(config.action_vocab_end, config.n_action_bins)


def _random_tree(rows: int, first: int, end: int, generator: np.random.Generator) -> DraftTree:
    """Branches of ``TREE_LEVELS`` nodes, the last one shorter."""
    parents = DraftTree.filled(rows, first, TREE_LEVELS).parents
    return DraftTree(tuple(map(int, generator.integers(first, end, rows))), parents, ("",) * rows)


def _first_layers(config: OpenVLAConfig, layers: int = LAYERS) -> OpenVLAConfig:
    from spec_vla_ros.bench.decoding.shapes import shortened

    return shortened(config, min(layers, config.llama.num_hidden_layers))


def _tidy() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


Check = Callable[[OpenVLAConfig, torch.device], Rows]
