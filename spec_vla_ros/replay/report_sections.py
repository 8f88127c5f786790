"""The parts of the report that answer: the verdict, a card per decoder, the moments to look at, and the plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import advice
from .compare import Comparison
from .markup import fold, html_table, jpeg, options, text
from .moments import LISTED, PICTURED, Moment
from .plots import colours
from .report_tables import times_of
from .verdict import AUTOREGRESSIVE, Distance, Level, Verdict

OPEN = 12  # moments that are seen without unfolding
NAMED = 8  # times of gripper flips in a card before the rest folds

_MARKS = {Level.IDENTICAL: "✓", Level.WITHIN: "✓", Level.BEYOND: "!", None: "?"}


def verdict(content: Mapping[str, Any], comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """The answer, and what to do next."""
    level = advice.best_level(verdicts)
    parts = [
        f"<section class='verdict {level.value if level else 'unknown'}' id='verdict'>",
        f"<p class='soft'>Does speculative decoding do what {AUTOREGRESSIVE} decoding does, and is it faster?</p>",
        f"<h1><span aria-hidden='true'>{_MARKS[level]}</span> {text(advice.title(verdicts))}</h1>",
    ]
    if failed := advice.not_judged(comparison):
        parts.append(f"<p class='warn'>{text(failed)}</p>")
    if verdicts:
        best, images = advice.in_order(verdicts)[0], len({at for v in verdicts for at in v.beyond})
        see = f" <a href='#moments'>All {images} moments, with pictures.</a>" if images else ""
        parts += [
            f"<p>{text(advice.outcome(best, comparison))} {text(advice.apart(best))} {text(advice.savings(best))}</p>",
            f"<p><b>Next:</b> {options(advice.next_step(best, content['made_of']))}{see}</p>",
            f"<div class='scroll'>{_overview(verdicts)}</div>",
            f"<p class='soft'>{text(' '.join(times_of(content)))}</p>",
        ]
    else:
        parts.append(f"<p>{options(advice.answer(verdicts, comparison.presets))}</p>")
    return "".join([*parts, "</section>"])


def _overview(verdicts: Sequence[Verdict]) -> str:
    size, plain = advice.size, verdicts[0]
    head = (
        f"of {plain.images} actions", "beyond the radius", "gripper the opposite", "largest difference",
        "passes per action", "median ms",
    )  # fmt: skip
    rows = [
        (
            v.preset, str(len(v.beyond)), str(len(v.flips)), f"{size(v.mm.largest)} mm, {size(v.mrad.largest)} mrad",
            f"{v.passes[0]:.2f}", f"{v.ms_median[0]:.1f}",
        )
        for v in advice.in_order(verdicts)
    ]  # fmt: skip
    return html_table(
        head, [*rows, (AUTOREGRESSIVE, "", "", "", f"{plain.passes[1]:.2f}", f"{plain.ms_median[1]:.1f}")]
    )


def cards(content: Mapping[str, Any], comparison: Comparison, verdicts: Sequence[Verdict]) -> str:
    """Per decoder: level, passes, times, distances, gripper, what was allowed."""
    found = [_card(content, comparison, verdict, rank) for rank, verdict in enumerate(advice.in_order(verdicts))]
    return f"<div class='cards'>{''.join(found)}</div>" if found else ""


def _card(content: Mapping[str, Any], comparison: Comparison, verdict: Verdict, rank: int) -> str:
    inside = verdict.images - len(verdict.beyond)
    (own, plain), (total, plain_total) = verdict.passes, verdict.total_passes
    (median, plain_median), (p99, plain_p99) = verdict.ms_median, verdict.ms_p99
    colour = colours(comparison.presets)[verdict.preset]
    rows = [
        ("Inside the radius", f"{inside} of {verdict.images} actions ({advice.share(inside, verdict.images)})"),
        ("Allowed per action", text(advice.limits(verdict.tolerance, verdict.radius_si))),
        ("Difference per action", _distances(comparison, verdict)),
        ("Gripper", _gripper(comparison, verdict)),
        ("Passes", f"{own:.2f} in place of {plain:.2f} per action, {total} in place of {plain_total} in all: "
                   f"{advice.share(plain_total - total, plain_total)} saved"),
        ("Time", f"median {median:.1f} ms, p99 {p99:.1f} ms; {AUTOREGRESSIVE} {plain_median:.1f} and "
                                 f"{plain_p99:.1f} ms"),
    ]  # fmt: skip
    step = options(advice.next_step(verdict, content["made_of"]))
    return (
        f"<section class='card {verdict.level.value}'>"
        f"<h3><i style='background: var({colour})'></i>{text(verdict.preset)}</h3>"
        f"<p class='level'>{_MARKS[verdict.level]} {text(advice.LABELS[verdict.level])}</p>"
        f"<p>{text(advice.outcome(verdict, comparison))}</p>"
        f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in rows)}</dl>"
        + (fold("What to do next", f"<p>{step}</p>") if rank else "")
        + "</section>"
    )


def _distances(comparison: Comparison, verdict: Verdict) -> str:
    rows = "".join(_distance(comparison, verdict, distance) for distance in (verdict.mm, verdict.mrad))
    mm, mrad = (advice.size(distance.typical_motion) for distance in (verdict.mm, verdict.mrad))
    return (
        f"<table><tr><th></th><th>median</th><th>p99</th><th>largest</th><th>at</th></tr>{rows}</table>"
        f"<span class='soft'>The motion itself, median: {mm} mm, {mrad} mrad</span>"
    )


def _distance(comparison: Comparison, verdict: Verdict, distance: Distance) -> str:
    size, where = advice.size, ""
    if distance.largest:
        time = advice.moment(comparison, distance.at)
        where = f"{distance.axis}, " + (_link(comparison, distance.at) if distance.at in verdict.beyond else time)
    return (
        f"<tr><td>{distance.unit}</td><td>{size(distance.median)}</td><td>{size(distance.p99)}</td>"
        f"<td>{size(distance.largest)}</td><td>{where}</td></tr>"
    )


def _gripper(comparison: Comparison, verdict: Verdict) -> str:
    if not verdict.flips:
        return f"the same in all {verdict.images} actions"
    named = [_link(comparison, at) for at in verdict.flips]
    more = fold(f"{len(named) - NAMED} more", f"<p>{', '.join(named[NAMED:LISTED])}</p>") if len(named) > NAMED else ""
    return f"the opposite in {len(named)} of {verdict.images} actions: at {', '.join(named[:NAMED])}{more}"


def _link(comparison: Comparison, at: int) -> str:
    return f"<a href='#image-{comparison.indices[at]}'>{advice.moment(comparison, at)}</a>"


def over_time(verdicts: Sequence[Verdict]) -> str:
    """The plots that share the time axis."""
    verdicts = advice.in_order(verdicts)
    first = verdicts[0].preset
    choice = "".join(
        f"<label><input type='radio' name='axes' data-for='axes' value='{v.preset}'"
        f"{' checked' if v.preset == first else ''}> {v.preset}</label>"
        for v in verdicts
    )
    key = (
        "<p class='key soft'><span><b>•</b> within the radius</span> <span style='color: var(--bad)'><b>◆</b> beyond it"
        "</span> <span style='color: var(--flip)'><b>▼</b> gripper the opposite</span> <span>green: what is allowed"
        "</span></p>"
    )
    how = (
        "<p class='soft'>Drag to zoom, double click to go back; all plots over time follow. A mark leads to its "
        "picture.</p>"
    )
    return (
        f"<h2>Where decoders differ from {AUTOREGRESSIVE} decoding</h2>{key}{how}"
        "<div class='plot' id='overview' data-plot='overview' data-time></div>"
        + fold(
            "Per axis, in mm and mrad",
            f"<fieldset><legend class='soft'>Decoder less {AUTOREGRESSIVE}:</legend>{choice}</fieldset>"
            f"<div class='plot' id='axes' data-plot='axes' data-choice='{first}' data-time></div>",
            is_open=True,
        )
        + fold("The motion itself", "<div class='plot' id='motion' data-plot='motion' data-time></div>")
    )


def costs(content: Mapping[str, Any], judged: bool) -> str:
    """Passes and times. ``judged``: whether the motion itself has its place among other plots already."""
    return (
        ("" if judged else "<h2>Motion</h2><div class='plot' id='motion' data-plot='motion' data-time></div>")
        + "<h2>Passes per action</h2><div class='plot' id='passes' data-plot='passes'></div>"
        + fold(
            "Tokens accepted in the first pass, over time",
            "<div class='plot' id='accepted' data-plot='accepted' data-time></div>",
        )
        + "<h2>Time per action</h2><p class='soft'>Box: the middle half of the actions; ends: 1st and 99th percentile. "
        f"{text(' '.join(times_of(content)))}</p><div class='plot' id='times' data-plot='times'></div>"
    )


def moments(found: Sequence[Moment], verdicts: Sequence[Verdict], pictures: Mapping[int, bytes]) -> str:
    """Every action beyond what was allowed, with its time and its picture."""
    if not verdicts:
        return ""
    title = "<h2 id='moments'>Moments to look at</h2>"
    if not found:
        return f"{title}<p>None: no action of {verdicts[0].images} is beyond what was allowed.</p>"
    flips = [moment for moment in found if moment.flip]
    others = [moment for moment in found if not moment.flip]
    parts = [title]
    for heading, group in (
        (f"The gripper does the opposite: {len(flips)} of {verdicts[0].images} images", flips),
        (
            f"Further apart than the radius allows: {len(others)} of {verdicts[0].images} images, the furthest first",
            others,
        ),
    ):
        if group:
            shown = group[:LISTED]
            parts += [f"<h3>{heading}</h3>", _figures(shown[:OPEN], pictures)]
            if shown[OPEN:]:
                parts.append(fold(f"{len(shown) - OPEN} more", _figures(shown[OPEN:], pictures)))
            if len(group) > LISTED:
                parts.append(f"<p class='warn'>{len(group) - LISTED} more are not shown; summary.json names them.</p>")
    if len(found) > PICTURED:
        parts.append(f"<p class='soft'>Pictures of {PICTURED} of {len(found)} images.</p>")
    return "".join(parts)


def _figures(found: Sequence[Moment], pictures: Mapping[int, bytes]) -> str:
    return f"<div class='moments'>{''.join(_figure(moment, pictures) for moment in found)}</div>"


def _figure(moment: Moment, pictures: Mapping[int, bytes]) -> str:
    lines = "".join(f"<p><b>{text(preset)}</b>: {text(line)}</p>" for preset, line in moment.lines)
    picture = pictures.get(moment.index)
    return (
        f"<figure id='image-{moment.index}'>{jpeg(picture, f'image {moment.index}') if picture else ''}<figcaption>"
        f"<p><b>{moment.seconds:.1f} s</b>, image {moment.index}</p>{lines}"
        f"<p class='soft'>“{text(moment.instruction)}”, stamp {moment.stamp_ns // 10**9}.{moment.stamp_ns % 10**9:09d}"
        "</p></figcaption></figure>"
    )


def furthest(worst: Sequence[Sequence[Any]], comparison: Comparison, pictures: Mapping[int, bytes]) -> str:
    """The largest differences where none is beyond what was allowed, or nobody can say."""
    figures = [
        f"<figure>{jpeg(pictures[index], f'image {index}')}<figcaption>image {index}: {text(preset)} is {bins} bins "
        f"from {text(comparison.presets[0])}</figcaption></figure>"
        for index, preset, bins in worst
        if index in pictures and bins
    ]
    if not figures:
        return ""
    return fold("The largest differences", f"<div class='moments'>{''.join(figures)}</div>", is_open=True)
