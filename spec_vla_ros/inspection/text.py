"""Reports as lines for a terminal: sections, aligned, wrapped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from .findings import ERROR, Report, Section

WIDTH = 120
GAP = 2  # columns between a label and its text


def lines_of(report: Report) -> list[str]:
    """One report, its problems at the end."""
    lines = [f"{report.path}: {report.kind}" if report.path else report.kind]
    for section in report.sections:
        lines += _section(section)
    if report.problems:
        lines.append("  what would go wrong")
        for problem in sorted(report.problems, key=lambda problem: problem.severity != ERROR):
            lines += _wrapped(f"    {problem.severity:<7}  ", problem.what)
            lines += _wrapped(" " * 13 + "-> ", problem.remedy)
    return lines


def verdict(reports: Sequence[Report]) -> str:
    """The last line."""
    counts = {}
    for report in reports:
        for problem in report.problems:
            counts[problem.severity] = counts.get(problem.severity, 0) + 1
    if not counts:
        return "nothing was found that would go wrong"
    said = ", ".join(f"{counts[name]} {name}{'s' * (counts[name] > 1)}" for name in sorted(counts))
    return (
        f"{said}: configure, a replay or a training would refuse this"
        if ERROR in counts
        else f"{said}, nothing that would stop it"
    )


def _section(section: Section) -> list[str]:
    lines = [f"  {section.title}"]
    width = max((len(label) for label, _, _ in section.rows), default=0) + GAP
    for label, text, _ in section.rows:
        lines += _wrapped(f"    {label:<{width}}", text)
    if section.table:
        names = list(section.table[0])
        cells = [names, *([row[name][0] for name in names] for row in section.table)]
        widths = [max(len(row[i]) for row in cells) + GAP for i in range(len(names))]
        lines += [
            ("    " + "".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))).rstrip() for row in cells
        ]
    return lines


def _wrapped(prefix: str, text: str) -> list[str]:
    """``text`` behind ``prefix``, continued below itself; long names are never broken, they are copied from here."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=prefix, subsequent_indent=" " * len(prefix),
        break_long_words=False, break_on_hyphens=False,
    ) or [prefix.rstrip()]  # fmt: skip
