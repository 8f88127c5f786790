"""One HTML file that answers first, then shows: verdict, moments to look at, plots, and tables that fold.

It needs no network and lets nothing in: a policy in the page (Content-Security-Policy) forbids every request and every
script but the two whose digests it names, so that a text from a recording cannot become one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_vla_ros.recordings.frames import Commands

from . import report_sections as sections
from . import report_tables as tables
from .compare import Comparison, table
from .markup import fold, json_block, text
from .moments import Moment
from .plots import plots
from .verdict import Verdict

NO_PLOTS = (
    "There are no plots: they need plotly. pip install 'spec_vla_ros[model,replay]', then the same command adds them."
)


@dataclass(frozen=True)
class Report:
    """What the page is made of. ``content``: as in summary.json. ``pictures``: JPEG by the index of the row."""

    content: Mapping[str, Any]
    comparison: Comparison
    commands: Commands
    verdicts: Sequence[Verdict]
    moments: Sequence[Moment]
    pictures: Mapping[int, bytes]

    def page(self, library: str | None) -> str:
        """The page; ``library``: the source of plotly.js, None = without plots."""
        content, comparison, verdicts = self.content, self.comparison, self.verdicts
        scripts = [] if library is None else [library, _beside("report.js")]
        title = f"Replay of {text(content['made_of']['bag']['name'])}"
        parts = [
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">',
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{title}</title><style>{_beside('report.css')}</style></head><body><main>",
            f"<p class='soft intro'>{tables.extent(comparison)} {text(content['made_of']['bag']['name'])}</p>",
            sections.verdict(content, comparison, verdicts),
            *(f"<p class='warn'>{text(line)}</p>" for line in tables.warnings(content)),
            sections.cards(content, comparison, verdicts),
        ]
        if library is None:
            parts.append(f"<p class='warn'>{text(NO_PLOTS)}</p>")
        elif verdicts:
            parts.append(sections.over_time(verdicts))
        parts.append(sections.moments(self.moments, verdicts, self.pictures))
        if not self.moments:
            parts.append(sections.furthest(content["worst"], comparison, self.pictures))
        if library is not None:
            parts.append(sections.costs(content, judged=bool(verdicts)))
        parts += [
            "<h2>All figures</h2>",
            fold("Decoders, one row each", tables.decoders(content["summary"])),
            *self._episodes(),
            fold("Distance per axis", tables.distances(content["summary"])),
            fold("As text", f"<pre>{text(table(content['summary']))}</pre>"),
            fold("What was replayed, and on which machine", tables.made_with(content)),
        ]
        if library is not None:
            shown = json_block(plots(comparison, verdicts, self.commands))
            parts += [f"<script type='application/json' id='figures'>{shown}</script>"]
            parts += [f"<script>{script}</script>" for script in scripts]
        return "\n".join([*parts, "</main></body></html>"])

    def _episodes(self) -> list[str]:
        """How the recorded episodes ended, and decoders on those that succeeded."""
        found, successful = self.content.get("episodes", ()), self.content.get("summary_of_successful")
        if not found:
            return []
        good = sum(one["succeeded"] for one in found)
        parts = [fold(f"Episodes: {good} of {len(found)} succeeded", tables.episodes(self.content), is_open=True)]
        if successful and good < len(found):
            parts.append(fold("Decoders, on the episodes that succeeded", tables.decoders(successful)))
        return parts


def plotly_js() -> str | None:
    """The source of plotly.js, which the package plotly brings; None without it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return None
    return get_plotlyjs()


def _policy(scripts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
