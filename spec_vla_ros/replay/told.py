"""What recorded episodes say of themselves, held against what they are replayed with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from spec_vla_ros.recordings import episodes
from spec_vla_ros.recordings.errors import ReplayError
from spec_vla_ros.recordings.reader import Bag

from .options import Options

LISTED = 20  # episodes that the command line names


class Told:
    """Of the recordings of one replay, those that say what they are, by the names of their folders."""

    def __init__(self, told: Mapping[str, episodes.Told], alone: bool) -> None:
        """``alone``: there is only one recording, and rows do not name it."""
        self.told, self._alone = dict(told), alone
        self._images: Counter[str] = Counter()

    @classmethod
    def of(cls, bag: Bag | episodes.Bags) -> Told:
        """Read the records."""
        bags = [bag] if isinstance(bag, Bag) else bag.bags
        found = {one.path.name: episodes.told_by(one) for one in bags}
        return cls({name: told for name, told in found.items() if told is not None}, isinstance(bag, Bag))

    def of_bag(self, bag: Bag) -> episodes.Told | None:
        """What ``bag`` says."""
        return self.told.get(bag.path.name)

    def with_statistics(self, options: Options) -> Options:
        """``options`` with the statistics that were recorded with, unless they name some.

        Raises :class:`ReplayError` where there are several.
        """
        keys = Counter(told.unnorm_key for told in self.told.values() if told.unnorm_key)
        if options.unnorm_key or not keys:
            return options
        if len(keys) > 1:
            found = ", ".join(f"{key} ({number} episodes)" for key, number in keys.most_common())
            raise ReplayError(
                f"{options.bag}: recorded with several statistics, whose actions cannot be compared: {found}; replay "
                "those of one kind, or say --unnorm-key"
            )
        return replace(options, unnorm_key=next(iter(keys)))

    def remarks(self, about: Mapping[str, Any]) -> list[str]:
        """What differs from the model that is loaded, as ``about`` describes it."""
        lines, count = [], len(self.told)
        for name, what, why in (
            ("unnorm_key", "other statistics", "m and rad of then and now are not of one kind"),
            ("model_digest", "another model", "what was recorded then is another model's"),
        ):
            others = Counter(getattr(told, name) for told in self.told.values()) - Counter({about[name]: count})
            others.pop("", None)
            if others:
                found = ", ".join(sorted(others))
                lines.append(f"{others.total()} of {count} episodes were recorded with {what} ({found}): {why}")
        late = sum(not told.from_start for told in self.told.values())
        if late:
            lines.append(f"{late} of {count} episodes were not recorded from their start, or their end is missing")
        missing = sum(told.missing for told in self.told.values())
        if missing:
            lines.append(f"{missing} actions that were begun are not in the bags: the recorder did not hear them")
        return lines

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row for its episode."""
        self._images[self._name(row)] += 1

    def succeeded(self, row: Mapping[str, Any]) -> bool:
        """Whether the episode of ``row`` ended well."""
        told = self.told.get(self._name(row))
        return told is not None and told.succeeded

    def as_json(self) -> list[dict[str, Any]]:
        """One row per episode."""
        names = ("instruction", "outcome", "succeeded", "fault", "message", "from_start", "actions", "elapsed",
                 "unnorm_key", "model_digest")  # fmt: skip
        return [
            {"name": name, **{key: getattr(told, key) for key in names}, "images": self._images[name]}
            for name, told in self.told.items()
        ]

    def _name(self, row: Mapping[str, Any]) -> str:
        return next(iter(self.told), "") if self._alone else row.get("episode", "")


def words(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The episodes for the command line: how many ended how, and the first of them by name."""
    rows = list(rows)
    if not rows:
        return []
    outcomes = Counter(row["outcome"] for row in rows).most_common()
    good = sum(row["succeeded"] for row in rows)
    lines = [
        f"{good} of {len(rows)} episodes succeeded; outcomes: "
        + ", ".join(f"{outcome} {number}" for outcome, number in outcomes)
    ]
    lines += [
        f"  {row['name']}: {row['outcome']}{' ' + row['fault'] if row['fault'] else ''}, {row['actions']} actions in "
        f"{row['elapsed']:.1f} s, {row['images']} images replayed"
        for row in rows[:LISTED]
    ]
    return [*lines, *([f"  and {len(rows) - LISTED} more"] if len(rows) > LISTED else [])]
