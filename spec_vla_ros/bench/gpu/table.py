"""A campaign as Markdown, for docs/benchmarks.md: made from its file, so that no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .campaign import DONE
from .plan import CHECK, LATENCY, PASSES

Row = dict[str, Any]


def markdown(campaign: Row) -> str:
    """Card, checks, latencies, passes, kernels, and what has failed or is missing."""
    done = {part["part"]: part["rows"] for part in campaign["parts"] if part["status"] == DONE}
    sections = [
        _about(campaign),
        _checks([row for name, rows in done.items() if name.startswith(CHECK) for row in rows]),
        _latencies([row for name, rows in done.items() if name.startswith(LATENCY) for row in rows]),
        _passes([row for name, rows in done.items() if name.startswith(PASSES) for row in rows]),
        _profile(done.get("profile", [])),
        _missing(campaign, done),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def wrong(campaign: Row) -> list[str]:
    """Checks that did not hold, and parts that did not end, in words."""
    found = [
        f"{part['part']}: {row['what']}, {row['ours']} against {row['theirs']}"
        for part in campaign["parts"]
        for row in part["rows"]
        if row.get("ok") is False
    ]
    return found + [f"{part['part']}: {part['status']}" for part in campaign["parts"] if part["status"] != DONE]


def _about(campaign: Row) -> str:
    options, versions, card = campaign["options"], campaign["versions"], campaign.get("card")
    if card:
        known = (
            ("driver {}", "driver_version"), ("CUDA {}", "cuda"), ("{} W", "power.limit"),
            ("SM up to {} MHz", "clocks.max.sm"), ("memory {} MHz", "clocks.max.memory"),
            ("MIG {}", "mig.mode.current"),
        )  # fmt: skip
        where = ", ".join([card["name"], *(text.format(card[name]) for text, name in known if card.get(name))])
        where += _clocks(campaign["parts"])
    else:
        machine = campaign["machine"]
        where = f"**No GPU**: {machine['processor']}, {options['threads']} of {machine['cores']} cores"
    layers = f", {options['layers']} layers" if options["layers"] else ""
    return (
        f"{where}. Shapes: {options['shapes']}{layers}; {options['actions']} actions per row. Python "
        f"{versions['python']}, torch {versions.get('torch', '?')}. Commit {str(campaign.get('commit'))[:12]}, "
        f"campaign {campaign['key']}."
    )


def _clocks(parts: Iterable[Row]) -> str:
    """What the SM clock was while latencies were taken."""
    said = [
        float(sample["clocks.sm"])
        for part in parts
        if part["part"].startswith((LATENCY, PASSES))
        for sample in part["card"]
        if sample.get("clocks.sm", "").replace(".", "").isdigit()
    ]
    return f", SM at {min(said):.0f} to {max(said):.0f} MHz while timed" if said else ""


def _checks(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if "detail" in row:
            detail = row["detail"]
        elif "apart" in row:
            detail = f"logits {row['apart']:.2g} apart; largest lead of another choice {row['largest_lead']:.2g}"
        else:
            detail = f"{row['bins_mean']:.2f} bins on average, {row['bins_max']} at most; grippers {row['grippers']}"
        verdict = {True: "holds", False: "**does not hold**", None: "counted"}[row["ok"]]
        lines.append([row["what"], row["ours"], row["theirs"], f"{row['equal']} of {row['count']}", detail, verdict])
    return _table(["what", "ours", "against", "equal", "", ""], lines)


def _latencies(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        total, passes = row["total_ms"], row.get("passes_mean")
        lines.append(
            [
                row["decoder"], row["precision"], f"{row['mean_ms']:.2f} ms",
                f"{total['median']:.2f}, {total['p99']:.2f} ms",
                "" if row.get("one_pass_ms") is None else f"{row['one_pass_ms']['median']:.2f} ms",
                "" if passes is None else f"{passes:.2f}", _times(row.get("speedup_over_autoregressive")),
                _times(row.get("speedup_over_autoregressive_transformers")), _share(row),
            ]
        )  # fmt: skip
    head = ["decoder", "precision", "mean", "median, p99", "in one pass", "passes"]
    return _table([*head, "against autoregressive", "against transformers", "of the floor"], lines)


def _passes(rows: Sequence[Row]) -> str:
    lines = [
        [row["what"], row["precision"], str(row["rows"] or "-"), f"{row['ms']:.3f} ms", _share(row)] for row in rows
    ]
    return _table(["alone", "precision", "rows", "time", "of the floor"], lines)


def _profile(rows: Sequence[Row]) -> str:
    lines = [[row["what"], f"`{row['kernel'][:80]}`", str(row["count"]), f"{100 * row['share']:.1f} %"] for row in rows]
    return _table(["where the time goes", "kernel", "launches", "share"], lines)


def _missing(campaign: Row, done: dict[str, Any]) -> str:
    lines = [f"- {part['part']}: {part['status']}: {part['error']}" for part in campaign["parts"] if part["error"]]
    known = {part["part"] for part in campaign["parts"]}
    lines += [f"- {name}: not run" for name in campaign["planned"] if name not in known]
    return "\n".join(lines)


def _share(row: Row) -> str:
    return f"{100 * row['floor_share']:.0f} %" if "floor_share" in row else ""


def _times(value: float | None) -> str:
    return f"{value:.2f}x" if value is not None else ""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
