"""HTML in which nothing foreign is markup."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from typing import Any

from spec_vla_ros.foreign_text import printable


def text(value: Any) -> str:
    """Foreign text as HTML: nothing in it is markup, nothing steers what shows it."""
    return html.escape(printable(value))


def options(value: str) -> str:
    """Text as HTML in which options of the command line with their values are not broken into lines."""
    return re.sub(r"--[a-z][a-z-]*( [\d.]+)?", r"<code>\g<0></code>", text(value))


def fold(title: str, inside: str, is_open: bool = False) -> str:
    """``title``: text. ``inside``: HTML, which may be wider than the screen."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{text(title)}</summary><div class='scroll'>{inside}</div></details>"


def json_block(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or begins another."""
    plain = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of texts."""
    cells = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def jpeg(picture: bytes, alt: str) -> str:
    """A picture that stands in the page itself."""
    return f"<img alt='{text(alt)}' src='data:image/jpeg;base64,{base64.b64encode(picture).decode()}'>"
