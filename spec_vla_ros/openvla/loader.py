"""From a checkpoint folder or hub id to a model that is ready to act, self-checked."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spec_vla_ros.errors import CheckpointError, NonFiniteError, SelfCheckError

from .action_tokens import ActionStatistics, ActionTokens, choose_statistics
from .checkpoint import read_checkpoint
from .config import OpenVLAConfig
from .devices import named_device
from .file_stamps import FileStamps
from .image import ImageTransform
from .lora import check_adapter, merge_adapter
from .model import OpenVLA
from .picture import AUTO
from .precisions import named_precision
from .prompt import Prompt
from .sources import Source, locate
from .weights import load_weights

SELF_CHECK_INSTRUCTIONS = ("pick up the red block", "close the top drawer and then push the blue mug")
SELF_CHECK_MIN_CHANGE = 1e-6  # of the largest logit

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """Everything that turns an image and an instruction into logits, and tokens into an action.

    ``source``: as it was asked for. ``folder``: that was read, of a hub id its snapshot; ``base``: that of an adapter's
    base model. ``files``: of all of them; drafters whose heads are read later add theirs.
    """

    model: OpenVLA
    config: OpenVLAConfig
    transform: ImageTransform
    prompt: Prompt
    tokens: ActionTokens
    statistics: ActionStatistics
    source: str
    folder: Path | None = None
    base: Path | None = None
    files: FileStamps | None = None

    @torch.inference_mode()
    def first_logits(self, image: np.ndarray, instruction: str) -> torch.Tensor:
        """(vocabulary,) float32 logits of the first action token, without a cache."""
        pixels = self.transform(image)[None].to(self.model.device)
        ids = torch.tensor([self.prompt.ids(instruction)], device=self.model.device)
        return self.model(pixels, ids)[0, -1]


def load_model(
    path_or_id: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    unnorm_key: str | None = None,
    revision: str | None = None,
    *,
    base_model: str = "",
    centre_crop: bool = False,
    image_resize: str = AUTO,
) -> LoadedModel:
    """Load a folder or hub id (``revision``: branch, tag or commit), merging a LoRA adapter if it is one.

    ``dtype`` defaults to bfloat16 on an accelerator and float32 on the CPU; "float8", "int8", "int8_weights" and
    "int4_weights" quantise the language model's layers (:mod:`.precisions`). ``unnorm_key`` may be omitted only
    where the checkpoint has a single key. What is taken is logged before the weights are read, with a warning where
    nothing pins it. ``device``: "auto" is a GPU where there is one. ``base_model``: of an adapter, in place of what its
    own file names; a folder, a hub id or "hub id@revision". ``centre_crop``, ``image_resize``: of
    :class:`.picture.PictureRule`; "auto" is what the checkpoint says.

    Raises :class:`ConfigurationError`, :class:`CheckpointError`, :class:`StatisticsError`, :class:`SelfCheckError`,
    :class:`NonFiniteError`.
    """
    device = named_device(device)
    kind = None
    if not isinstance(dtype, torch.dtype):
        dtype, kind = named_precision(dtype or "auto", device)
    source = locate(path_or_id, revision)
    _announce("the model", source)
    checkpoint = read_checkpoint(source.folder, base_model)
    if checkpoint.base is not None:
        _announce("the base model of this adapter", checkpoint.base)
    config, files = checkpoint.config, checkpoint.files
    # The cheap parts first: a wrong key should not cost the minutes that the weights take.
    statistics = choose_statistics(checkpoint.statistics, unnorm_key)
    transform = ImageTransform(config, centre_crop, image_resize)
    prompt = Prompt(checkpoint.tokenizer, config.action_vocab_end, config.llm_backbone_id)
    if kind and checkpoint.adapter is not None:
        raise CheckpointError(
            f"{path_or_id} is a LoRA adapter, which cannot be merged into {kind.precision} weights; save the merged "
            "model and load that, or choose bfloat16"
        )
    if checkpoint.adapter is not None:
        check_adapter(checkpoint.adapter)
    model = load_weights(checkpoint.folder, config, device, dtype, kind)
    if checkpoint.adapter is not None:
        merge_adapter(model, checkpoint.adapter)
    if not kind:
        model.language_model.fuse()
    model.language_model.use_kernels()
    loaded = LoadedModel(
        model=model,
        config=config,
        transform=transform,
        prompt=prompt,
        tokens=ActionTokens(config.action_vocab_end, config.n_action_bins),
        statistics=statistics,
        source=os.fspath(path_or_id),
        folder=source.folder,
        base=None if checkpoint.base is None else checkpoint.base.folder,
        files=files,
    )
    files.check()  # a download that is still writing
    check_loaded(loaded)
    return loaded


def _announce(what: str, source: Source) -> None:
    _log.info(f"{what}: {source}")
    if source.warning:
        _log.warning(f"{what}: {source.warning}")


def check_loaded(loaded: LoadedModel) -> None:
    """Refuse a model whose first logits ignore the image or the instruction, or are not finite.

    Such a model loads, runs and moves the arm without looking; nothing else would report it.
    """
    size = loaded.config.image_size
    black, white = (np.full((size, size, 3), level, dtype=np.uint8) for level in (0, 255))
    first, second = SELF_CHECK_INSTRUCTIONS
    reference = loaded.first_logits(black, first)
    for what, other in (
        ("image", loaded.first_logits(white, first)),
        ("instruction", loaded.first_logits(black, second)),
    ):
        if not (reference.isfinite().all() and other.isfinite().all()):
            raise NonFiniteError("the self-check gave logits that are NaN or infinite")
        change = (reference - other).abs().max() / reference.abs().max().clamp_min(1e-12)
        if change < SELF_CHECK_MIN_CHANGE:
            raise SelfCheckError(f"the model ignores the {what}: its first logits change by {change:.1e} only")
