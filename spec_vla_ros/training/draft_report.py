"""What a draft head is worth: held-out frames decoded once more with it, and what that would save on this machine.

The verifier itself judges, as it does on the robot, with the answers before each frame as its history. Only the
arithmetic from passes to milliseconds is an expectation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..decoding.decoder import decode_speculative
from ..decoding.drafters import Drafter, Observation, make_drafters
from ..decoding.drafters.base import DraftContext
from ..decoding.presets import resolve
from ..decoding.tree import DraftTree
from ..decoding.verifier import TREE_ROWS, Verifier, cache_slots
from ..errors import SpecVlaError
from ..machine import machine, versions
from ..openvla.loader import LoadedModel
from ..policy_types import DecodeSettings
from .draft_parallel import Processes
from .draft_shards import Samples

PRESET_OF = {"vision": "fastest", "eagle": "spec_vla"}  # what the node runs a head in
REPEATS = 15  # of a measured stage
NAMES = ("x", "y", "z", "roll", "pitch", "yaw")


class Judge:
    """Decodes held-out answers with a head and counts. ``radius``: bins."""

    def __init__(self, loaded: LoadedModel, samples: Samples, kind: str, radius: int) -> None:
        self.loaded, self._samples, self._kind = loaded, samples, kind
        self.settings = resolve(DecodeSettings(preset=PRESET_OF[kind], acceptance_radius=radius), (kind,))
        self.verifier = Verifier(loaded.model, loaded.tokens, cache_slots(loaded), graphs=False)
        self.dim = loaded.statistics.action_dim
        self.tolerance = self.settings.tolerance(loaded.statistics.bin_width(loaded.tokens.n_bins).tolist())

    @torch.inference_mode()
    def observation(self, row: int) -> Observation:
        """What the drafters see of one answer's frame."""
        model, samples = self.loaded.model, self._samples
        patches = samples.patches(torch.tensor([row])).to(model.device, model.dtype)
        ids = torch.tensor([samples.prompts[int(samples.task[row])]], device=model.device)
        return Observation(patches, model.language_model.embed(ids), model.prompt_embeds(patches, ids))

    def history(self, row: int) -> tuple[tuple[int, ...], ...]:
        """Tokens of the action before, if there is one."""
        last = self._samples.last[row]
        return () if int(last[0]) < 0 else (tuple(self.loaded.tokens.to_ids(last.numpy()).tolist()),)

    @torch.inference_mode()
    def count(self, drafter: Drafter, rows: Tensor, processes: Processes) -> dict[str, Any]:
        """Figures over ``rows``, shared among the processes."""
        drafters = make_drafters(self.settings.drafters, {self._kind: drafter})
        dim = self.dim
        # A second look settles all but the first token once more, with a pass for each at worst.
        passes, tried, stood, depths = (torch.zeros(2 * dim, dtype=torch.float64) for _ in range(4))
        refused = torch.zeros(1, dtype=torch.float64)
        for row in rows[processes.rank :: processes.world].tolist():
            seen = self.observation(row)
            try:
                report = decode_speculative(
                    self.verifier, seen.prompt, self.tolerance, drafters, self.settings, self.history(row), seen
                ).report
            except SpecVlaError:  # no action at all; counted, because on the robot it is a fault
                refused += 1
                continue
            passes[report.verifier_passes] += 1
            first = next((i for i, drafted in enumerate(report.drafted_per_pass) if drafted), None)
            if first is None:
                continue
            place = first + sum(report.accepted_per_pass[:first])  # tokens settled before
            accepted = report.accepted_per_pass[first]
            depths[accepted] += 1
            stood[place : place + accepted] += 1
            tried[place : min(place + accepted + 1, dim - 1)] += 1
        sums = processes.total(torch.stack([passes, tried, stood, depths]))
        return self._figures(sums, int(processes.total(refused)))

    def _figures(self, sums: Tensor, refused: int) -> dict[str, Any]:
        passes, tried, stood, depths = sums
        actions = float(passes.sum())
        names = [NAMES[d] if d < len(NAMES) else str(d) for d in range(self.dim - 1)]
        places = torch.arange(len(passes), dtype=torch.float64)
        return {
            "actions": int(actions),
            "refused_by_the_model": refused,
            "acceptance_per_position": {
                name: round(float(stood[d] / tried[d]), 3) for d, name in enumerate(names) if tried[d] > 0
            },
            "accepted_in_first_drafted_pass": round(float((depths * places).sum() / max(1.0, float(depths.sum()))), 3),
            "passes_per_action": round(float((passes * places).sum() / actions), 4) if actions else float(self.dim),
            "passes_histogram": {str(n): int(count) for n, count in enumerate(passes.tolist()) if count},
            "one_pass_share": round(float(passes[1] / actions), 4) if actions else 0.0,
        }

    @torch.inference_mode()
    def stages(self, drafter: Drafter, row: int) -> dict[str, float]:
        """Milliseconds of each stage, medians, measured on one held-out frame."""
        loaded, model = self.loaded, self.loaded.model
        size = loaded.config.image_size
        grey = torch.full((size, size, 3), 128, dtype=torch.uint8).numpy()
        seen, verifier, settings = self.observation(row), self.verifier, self.settings
        settled = seen.prompt.shape[1]
        radii = self.tolerance.bins
        depth = min(settings.draft_depth, self.dim - 1)
        said = tuple(int(token) for token in self._samples.tokens[row])
        late = drafter.from_verifier  # it has nothing to say before the first pass
        if late:
            radii, depth = radii[1:], depth - 1

        def draft() -> DraftTree:
            drafter.begin(seen)
            verdict = verifier.run(seen.prompt, 0) if late else None
            start = time.perf_counter()
            context = DraftContext(
                int(late), depth, settings.draft_width or drafter.widest, self.tolerance.bins, loaded.tokens,
                self.history(row), said[: int(late)], (), verdict, said[: int(late)],
            )  # fmt: skip
            tree = DraftTree.of([(drafter.name, branch) for branch in drafter.propose(context)], TREE_ROWS)
            heads.append(1e3 * (time.perf_counter() - start))
            return tree

        heads: list[float] = []
        tree = draft()
        result = {
            "image_ms": self._median(lambda: model.embed_image(loaded.transform(grey)[None].to(model.device)).cpu()),
            "prefill_ms": self._median(lambda: verifier.run(seen.prompt, 0)),
            "pass_ms": self._median(lambda: verifier.run(said[0], settled)),
            "prefill_with_drafts_ms": self._median(lambda: verifier.run(seen.prompt, 0, tree, radii)),
            "pass_with_drafts_ms": self._median(lambda: verifier.run(said[0], settled, tree, radii)),
        }
        self._median(draft)
        result["head_ms"] = round(statistics.median(heads[1:]), 3)
        result["drafted_rows"] = len(tree)
        return result

    def expectation(self, stages: Mapping[str, float], passes: float) -> dict[str, float]:
        """Milliseconds per action computed from ``stages`` and ``passes``, without and with the head."""
        plain = stages["image_ms"] + stages["prefill_ms"] + (self.dim - 1) * stages["pass_ms"]
        more = max(0.0, passes - 1) * stages["pass_with_drafts_ms"]
        if PRESET_OF[self._kind] == "spec_vla":  # drafts before every pass but the first
            drafted = stages["image_ms"] + stages["prefill_ms"] + max(0.0, passes - 1) * stages["head_ms"] + more
        else:
            drafted = stages["image_ms"] + stages["head_ms"] + stages["prefill_with_drafts_ms"] + more
        return {
            "autoregressive_ms": round(plain, 2),
            "with_head_ms": round(drafted, 2),
            "speed_up": round(plain / drafted, 3),
        }

    @staticmethod
    def _median(run: Callable[[], Any]) -> float:
        times = []
        for _ in range(REPEATS + 2):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        return round(statistics.median(times[2:]), 3)  # the first ones find or build what the others reuse


def full_report(judge: Judge, drafter: Drafter, rows: Tensor, processes: Processes) -> dict[str, Any]:
    """Everything, as JSON; stage times are the first process's."""
    figures = judge.count(drafter, rows, processes)
    if not processes.first:
        return {}
    stages = judge.stages(drafter, int(rows[0]))
    return {
        "preset": judge.settings.preset,
        "acceptance_radius_bins": list(judge.tolerance.bins),
        "held_out": figures,
        "measured_stages": stages,
        "cuda_graphs": "off",  # the node has them on CUDA, so its passes are shorter than these
        "expected": judge.expectation(stages, figures["passes_per_action"]),
        "machine": {**machine(), "device": str(judge.loaded.model.device), "threads": torch.get_num_threads()},
        "versions": versions(),
    }


def in_words(kind: str, report: Mapping[str, Any]) -> list[str]:
    """A report for people."""
    held, stages, expected = report["held_out"], report["measured_stages"], report["expected"]
    positions = ", ".join(f"{name} {100 * share:.0f} %" for name, share in held["acceptance_per_position"].items())
    return [
        f"{kind} head, preset {report['preset']}, radius {report['acceptance_radius_bins']} bins, "
        f"{held['actions']} held-out actions:",
        f"  drafts that stand, per position (those before it stood): {positions}",
        f"  accepted in the first drafted pass {held['accepted_in_first_drafted_pass']:.2f}; passes per action "
        f"{held['passes_per_action']:.2f} {held['passes_histogram']}; in one pass {100 * held['one_pass_share']:.1f} %",
        "  measured here: "
        + ", ".join(f"{name.removesuffix('_ms')} {v:g} ms" for name, v in stages.items() if "_ms" in name),
        f"  expected from that: {expected['with_head_ms']:g} ms per action instead of "
        f"{expected['autoregressive_ms']:g} ms, {expected['speed_up']:.2f} times as fast as autoregressive decoding",
    ]
