"""What fits with what, of paths that were given together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spec_vla_ros.decoding.heads.store import other_pictures
from spec_vla_ros.errors import SpecVlaError
from spec_vla_ros.openvla.action_tokens import ActionStatistics, ActionTokens

from .findings import MALFORMED, Report, Section, count_of
from .heads import REMEDY, Head, misfits
from .model import Model
from .seen import Recording
from .statistics import period_of

ROUNDING = 1e-5  # a DeltaAction is float32
QUANTILES = (0.01, 0.99)  # what q01 and q99 of a checkpoint are
SAME_RANGE = 0.8  # in common; statistics of the very data have 1, halves of one data set hardly less than 0.9


def inspect_fits(
    models: Sequence[Model], heads: Sequence[Head], recordings: Sequence[Recording], step_dt: float = 0.0
) -> Report | None:
    """Every head and every recording with every model; None where there is nothing to compare."""
    if not models or not (heads or recordings):
        return None
    report = Report("", "what fits with what")
    for model in models:
        if model.config is None:
            continue
        for head in heads:
            _head(report, model, head)
        for recording in recordings:
            section = report.section(f"{recording.path} for {model.path}")
            _images(report, section, model, recording, step_dt)
            _instructions(report, section, model, recording)
            _commands(report, section, model, recording)
    return report


def _head(report: Report, model: Model, head: Head) -> None:
    section = report.section(f"{head.folder} for {model.path}")
    wrong = misfits(head, model.config, model.action_dim)
    if not wrong and (other := other_pictures(head.about, model.rule)):
        report.warning(f"the {head.type} head in {head.folder} {other}", REMEDY)
    section.add(f"{head.type} head", "fits" if not wrong else "does not fit: " + "; ".join(wrong), not wrong)
    for text in wrong:
        report.error(f"the {head.type} head in {head.folder} does not fit {model.path}: {text}", REMEDY)
    if not wrong:
        section.add("but", "equal sizes do not say that it was trained on this model's answers; its acceptance does")


def _images(report: Report, section: Section, model: Model, recording: Recording, step_dt: float) -> None:
    camera, side = recording.camera, model.config.image_size
    if camera is None or not camera.usable:
        section.add("images", "none, see above", False)
        report.error(f"{recording.path} has no images that {model.path} could see", "See the recording's own problems.")
        return
    shown = ", ".join(f"{width} x {height}" for width, height in sorted(camera.sizes))
    seen = "; ".join(model.rule.words(width, height) for width, height in sorted(camera.sizes))
    section.add("images", f"{camera.topic}, {seen} (image_resize {model.rule.resize})", sorted(camera.sizes))
    if min(min(size) for size in camera.sizes) < side:
        report.warning(
            f"{camera.topic} has {shown} px, {model.path} sees {side} x {side}: the pictures are blown up",
            "Record at least as many pixels as the model sees.",
        )
    period = step_dt or (period_of(model.chosen.key) if model.chosen else None)
    if not period:
        section.add("rate", f"{camera.rate:.1f} Hz; whether that is enough depends on step_dt, which is not known")
        return
    section.add("rate", f"{camera.rate:.1f} Hz; one image is used per step of {period:g} s", camera.rate)
    if camera.intervals and camera.interval > period * 1.05:
        report.warning(
            f"{camera.topic} has an image every {camera.interval:.2f} s, a step of {model.path} takes {period:g} s",
            "Between two steps the arm would wait for an image; record at the camera's own rate.",
        )


def _instructions(report: Report, section: Section, model: Model, recording: Recording) -> None:
    if not recording.instructions:
        section.add("instructions", "none, see above", False)
        return
    longest = 0
    for text in recording.instructions:
        try:
            longest = max(longest, len(model.prompt.ids(text)) if model.prompt else 0)
        except SpecVlaError as error:
            report.warning(f"{text!r} is no prompt for {model.path}: {error}", error.remedy)
    said = f", prompts of at most {longest} ids" if longest else ""
    section.add("instructions", f"{count_of(len(recording.instructions), 'instruction')}{said}", recording.instructions)


def _commands(report: Report, section: Section, model: Model, recording: Recording) -> None:
    section.add("commands", recording.commands or "none to compare with", recording.commands)
    if recording.values is not None and len(recording.values):
        _ranges(report, section, model, recording)
        return
    keys = _keys_of(model, recording)
    if keys is None:
        text = "for which data set camera and arm stand is not in a recording: unnorm_key is yours to know"
    elif keys:
        text = f"the recorded actions are those of {' or '.join(keys)}"
    else:
        text = "the recorded actions were made with none of this model's keys"
    section.add("statistics", text, keys)


def _ranges(report: Report, section: Section, model: Model, recording: Recording) -> None:
    """Which key's statistics could be those of the actions of a data set."""
    dim = recording.values.shape[1]
    same = {key: one for key, one in model.statistics.items() if one.action_dim == dim}
    if not same:
        sizes = sorted({one.action_dim for one in model.statistics.values()})
        section.add("statistics", f"none is of {dim} numbers", [])
        report.warning(
            f"the actions of {recording.path} have {dim} numbers, those of {model.path} "
            f"{', '.join(map(str, sizes)) or 'none'}",
            "Another robot than the model was tuned for? Draft heads learn from its pictures all the same.",
        )
        return
    low, high = np.quantile(recording.values, QUANTILES, axis=0)
    shares = {key: shared_range(low, high, one) for key, one in same.items()}
    fitting = sorted((key for key in shares if shares[key] >= SAME_RANGE), key=lambda key: -shares[key])
    best = max(shares, key=lambda key: shares[key])
    found = {"fitting": fitting, "shared": shares}
    if fitting:
        named = ", ".join(f"{key} ({100 * shares[key]:.0f} %)" for key in fitting)
        section.add("statistics", f"the actions have the range of {named}, on the axis that agrees least", found)
        return
    text = f"no key has the range of the actions; nearest is {best} ({100 * shares[best]:.0f} % on its worst axis)"
    section.add("statistics", text, found)
    report.warning(
        f"the actions of {recording.path} have the range of none of the statistics of {model.path}; nearest is {best}, "
        f"{100 * shares[best]:.0f} % in common on the axis that agrees least",
        "Other units, another robot, or data that the model was not tuned on? Its answers to the pictures may be poor.",
    )


def shared_range(low: np.ndarray, high: np.ndarray, statistics: ActionStatistics) -> float:
    """Of what the ranges ``low``..``high`` (A,) and q01..q99 cover together, the share that both cover, 0..1, on the
    axis where it is least. Axes that are not normalised, mostly the gripper, do not count.
    """
    both = np.minimum(high, statistics.q99) - np.maximum(low, statistics.q01)
    either = np.maximum(high, statistics.q99) - np.minimum(low, statistics.q01)
    share = np.where(either > 0, np.clip(both, 0, None) / np.where(either > 0, either, 1), 1.0)
    return float(share[statistics.mask].min(initial=1.0))


def _keys_of(model: Model, recording: Recording) -> list[str] | None:
    """Keys that make the recorded motions of the recorded bins; None where neither was recorded."""
    if not recording.actions:
        return None
    tokens = ActionTokens(model.config.action_vocab_end, model.config.n_action_bins)
    found = []
    for key, statistics in model.statistics.items():
        try:
            if all(_made(action, tokens, statistics) for action in recording.actions):
                found.append(key)
        except MALFORMED:
            continue
    return found


def _made(action: Any, tokens: ActionTokens, statistics: ActionStatistics) -> bool:
    values = statistics.unnormalise(tokens.centres[np.asarray(action.bins)])
    return bool(np.allclose(values[:6], action.delta, atol=ROUNDING))
