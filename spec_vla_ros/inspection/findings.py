"""What an inspection finds: facts for people and for programs, and problems with what to do about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spec_vla_ros.errors import SpecVlaError

ERROR, WARNING = "error", "warning"
# What files that were edited by hand make of code that expects whole ones.
MALFORMED = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ZeroDivisionError,
    OverflowError,
    RuntimeError,
    OSError,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """``severity``: "error" = configure or replay would refuse it; "warning" = it goes on, and somebody should know."""

    severity: str
    what: str
    remedy: str


@dataclass
class Section:
    """Rows of (label, text for people, value for programs), and a table of equal rows, of which either may be empty."""

    title: str
    rows: list[tuple[str, str, Any]] = field(default_factory=list)
    table: list[dict[str, tuple[str, Any]]] = field(default_factory=list)  # column -> (text, value)

    def add(self, label: str, text: str, value: Any = None) -> None:
        """One fact; ``value`` is the text where there is nothing better."""
        self.rows.append((label, text, text if value is None else value))

    def to_json(self) -> Any:
        """The values."""
        facts: dict[str, Any] = {_key(label): _finite(value) for label, _, value in self.rows}
        if self.table:
            facts["table"] = [{_key(name): _finite(value) for name, (_, value) in row.items()} for row in self.table]
        return facts


@dataclass
class Report:
    """Everything about one path, or about paths together."""

    path: str
    kind: str
    sections: list[Section] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def section(self, title: str) -> Section:
        """A new section at the end."""
        self.sections.append(Section(title))
        return self.sections[-1]

    def error(self, what: str, remedy: str) -> None:
        """It would be refused."""
        self._problem(Problem(ERROR, what, remedy))

    def warning(self, what: str, remedy: str) -> None:
        """It would go on."""
        self._problem(Problem(WARNING, what, remedy))

    def attempt(self, check: Callable[..., Result], *arguments: Any) -> Result | None:
        """What ``check`` returns, or None and the message of what it raises among the errors."""
        try:
            return check(*arguments)
        except SpecVlaError as error:
            self.error(str(error), error.remedy)
        except MALFORMED as error:
            name = getattr(check, "__name__", "a check").lstrip("_")
            self.error(f"{name}: {type(error).__name__}: {error}", "The file was edited or cut short; get it again.")
        return None

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "path": self.path,
            "kind": self.kind,
            "facts": {_key(section.title): section.to_json() for section in self.sections},
            "problems": [vars(problem) for problem in self.problems],
        }

    def _problem(self, problem: Problem) -> None:
        if problem.what not in [known.what for known in self.problems]:  # two ways to find the same thing
            self.problems.append(problem)


def count_of(number: int, what: str) -> str:
    """For example "1 image" and "2 images"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def size_of(count: float, unit: str = "B") -> str:
    """Three digits with a decimal prefix: 6.63 MB, 15.1 GB (10^9)."""
    prefixes = ("", "k", "M", "G", "T")
    power = 0
    while count >= 999.5 and power < len(prefixes) - 1:
        count, power = count / 1000, power + 1
    digits = 0 if power == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {prefixes[power]}{unit}".rstrip()


def _finite(value: Any) -> Any:
    """``value`` as JSON knows it, which has neither NaN nor infinity; files that were edited by hand may."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _key(label: str) -> str:
    """A label as a JSON key."""
    return "_".join("".join(c if c.isalnum() or c == "/" else " " for c in label).split())
