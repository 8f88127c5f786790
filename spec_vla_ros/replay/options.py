"""What a replay can be told. Needs none of the libraries that a replay does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spec_vla_ros.openvla.picture import AUTO
from spec_vla_ros.policy_types import DecodeSettings

OUT = Path("out/replay")
PRESETS = ("autoregressive", "spec_vla", "training_free", "fastest")


@dataclass(frozen=True)
class Settings:
    """What decides the actions, named and measured as the node's parameters.

    ``presets``: in the order of the report; the first one is compared with. ``acceptance_radius``: bins.
    ``acceptance_mm``, ``acceptance_mrad``: tighten it, 0 = not. ``acceptance_sum``: bins, 0 = no limit.
    ``second_look``: nats, 0 = never.
    """

    presets: tuple[str, ...] = PRESETS
    acceptance_radius: int = DecodeSettings.acceptance_radius
    acceptance_mm: float = 0.0
    acceptance_mrad: float = 0.0
    acceptance_sum: int = 0
    second_look: float = DecodeSettings.second_look
    draft_depth: int = DecodeSettings.draft_depth

    def of(self, preset: str) -> DecodeSettings:
        """For the policy."""
        return DecodeSettings(
            preset=preset, acceptance_radius=self.acceptance_radius, radius_mm=self.acceptance_mm or None,
            radius_mrad=self.acceptance_mrad or None, radius_sum=self.acceptance_sum or None,
            second_look=self.second_look, draft_depth=self.draft_depth,
        )  # fmt: skip


DECODING = tuple(name for name in Settings.__dataclass_fields__ if name != "presets")


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """What to replay, and how to decode.

    ``model``: folder or hub id, "" = the table top's, which comes with this package. ``out``: folder for everything
    that is written, None = one in ``out/replay`` that is named after the bag and after what decides the actions.
    ``period``: s between two images, None = the data set's, 0 = every image. ``command_topic``: "" = the DeltaActions,
    if there is one such topic. Everything else as in the node's parameters of the same names.
    """

    bag: Path
    model: str = ""
    out: Path | None = None
    image_topic: str = ""
    instruction_topic: str = ""
    instruction: str = ""
    command_topic: str = ""
    period: float | None = None
    draft_heads: str = ""
    unnorm_key: str = ""
    revision: str = ""
    base_model: str = ""
    device: str = "auto"
    dtype: str = "auto"
    cpu_threads: int = 0
    centre_crop: bool = False
    image_resize: str = AUTO
    report: bool = True

    def settings(self, presets: tuple[str, ...] = ()) -> Settings:
        """What decides the actions, for all ``presets`` or for these."""
        return Settings(presets or self.presets, **{name: getattr(self, name) for name in DECODING})
