"""Decoding at a recorded acceptance: all the work of real decoding, with somebody else's luck.

A model with random weights accepts nothing, so its latency with real acceptance would say nothing about a trained one.
Here every pass, every draft and every transfer takes place, and only the verdict is replaced by that of a recorded
action: as many drafted tokens stand as stood then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spec_vla_ros.decoding.outcome import Judgement
from spec_vla_ros.decoding.tree import DraftTree
from spec_vla_ros.errors import CommandError
from spec_vla_ros.openvla.action_tokens import ActionTokens
from spec_vla_ros.outputs import write_text

Action = tuple[int, ...]  # accepted drafts of each pass of one action, those of a second look included
ACTION_DIM = 7  # of the recorded actions


class RecordedLuck:
    """Lets the recorded number of tokens stand, whatever the model says: the ``judge`` of a verifier of ``tokens``."""

    def __init__(self, tokens: ActionTokens) -> None:
        self._tokens = tokens
        self.replay(())

    def replay(self, action: Action) -> None:
        """The next decoding shall be accepted like this one."""
        self._action, self._next, self._settled = action, 0, 0

    def __call__(self, tree: DraftTree, found: Judgement) -> Judgement:
        """What counts instead of ``found``: a branch as long as the recorded one, or the longest there is."""
        wanted = self._action[self._next] if self._next < len(self._action) else 0
        self._next += 1
        deep = [n for n, depth in enumerate(tree.depths) if depth < wanted]
        path = tree.path(max(deep, key=lambda n: (tree.depths[n], -n))) if deep else []
        self._settled += len(path) + 1
        again = self._settled == ACTION_DIM and self._next < len(self._action)
        # Nobody looks twice at what is exact: the choice must not be what was drafted.
        choice = self._tokens.first + self._tokens.bins // 2  # a random model's own may be any word
        choice += all(tree.tokens[n] == choice for n in path)
        count = len(found.greedy)
        return Judgement([choice] * count, [0.0 if again else float("inf")] * count, path)


@dataclass(frozen=True)
class Trace:
    """Recorded actions by preset, and where they come from."""

    about: str
    actions: dict[str, list[Action]]

    @staticmethod
    def load(path: Path) -> Trace:
        """Raises ``OSError``, and :class:`CommandError` for what is no trace."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return Trace(data["about"], {name: [tuple(a) for a in rows] for name, rows in data["actions"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(f"{path} is no recorded trace: {type(error).__name__}: {error}") from error

    def save(self, path: Path) -> None:
        """Write a small JSON file."""
        rows = {name: [list(action) for action in actions] for name, actions in self.actions.items()}
        write_text(path, json.dumps({"about": self.about, "actions": rows}, separators=(",", ":")) + "\n")


def record(model: Path, presets: Sequence[str], episodes: int, say: Callable[[str], None]) -> Trace:
    """Drive the simulated table top with each preset and keep how its drafts fared."""
    from spec_vla_ros.decoding.heads.store import heads_folder, trained_drafters
    from spec_vla_ros.decoding.planner import Planner
    from spec_vla_ros.openvla.loader import load_model
    from spec_vla_ros.policy import OpenVLAPolicy
    from spec_vla_ros.policy_types import DecodeSettings
    from spec_vla_ros.tabletop.training.rollout import evaluate

    loaded = load_model(model, device="cpu")
    trained, _ = trained_drafters(loaded, heads_folder(loaded))
    actions = {}
    for preset in presets:
        say(f"recording {preset}: {episodes} episodes")
        policy = OpenVLAPolicy(loaded, trained, planner=Planner.steady())
        done = evaluate(policy, DecodeSettings(preset=preset), episodes)
        actions[preset] = [result.report.accepted_per_pass for episode in done for result in episode.results]
    about = f"{episodes} episodes per preset with {model.name} on the simulated table top, "
    return Trace(f"{about}radius {DecodeSettings.acceptance_radius}", actions)
