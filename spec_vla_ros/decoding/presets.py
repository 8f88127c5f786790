"""Named ways to decode, so that nobody has to know which parts fit together.

A preset decides who drafts, how wide, and whose token is emitted; how far a draft may be off (``acceptance_radius``)
and how deep drafts go stay free. A trained drafter whose head is missing is left out: that costs passes, nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from spec_vla_ros.policy_types import DecodeSettings

from .drafters import TRAINED

AUTO, CUSTOM = "auto", "custom"
FALLBACK = "training_free"
# Whatever is quickest here: of all that draft well somewhere, the planner takes what pays on this device.
AUTOMATIC = DecodeSettings(drafters=("refine", "hold", "sweep", "forecast", "vision"))

# What each decides. "spec_vla" is the paper (arXiv 2507.22424): nothing is drafted before the verifier has run once,
# accepted drafts are emitted themselves. Where no width is said it is automatic.
PRESETS: dict[str, DecodeSettings] = {
    "autoregressive": DecodeSettings(decoder="autoregressive", drafters=()),
    "spec_vla": DecodeSettings(drafters=("eagle",), draft_width=8, emit="draft"),
    "training_free": DecodeSettings(drafters=("refine", "hold", "sweep", "forecast")),
    "fastest": DecodeSettings(drafters=("refine", "vision")),
}
NAMES = (AUTO, CUSTOM, *PRESETS)
DECIDED = ("decoder", "drafters", "draft_width", "emit")  # by every preset but "custom"


def decided_by(preset: str) -> tuple[str, ...]:
    """Settings that ``preset`` overrules."""
    return () if preset == CUSTOM else DECIDED


def resolve(settings: DecodeSettings, heads: Collection[str]) -> DecodeSettings:
    """``settings`` with its preset carried out; ``heads``: the trained drafters that there are."""
    name = settings.preset
    if name in (AUTO, CUSTOM):
        preset = AUTOMATIC if name == AUTO else settings
        drafters = tuple(d for d in preset.drafters if d not in TRAINED or d in heads)
        return replace(settings, **{field: getattr(preset, field) for field in DECIDED} | {"drafters": drafters})
    preset = PRESETS[name]
    if any(drafter in TRAINED and drafter not in heads for drafter in preset.drafters):
        name, preset = FALLBACK, PRESETS[FALLBACK]
    return replace(settings, preset=name, **{field: getattr(preset, field) for field in DECIDED})
