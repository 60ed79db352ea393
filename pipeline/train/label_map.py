"""Label maps: merge labels, or drop them, when a classifier is trained and evaluated."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from pipeline.config.sections import TrainParams
from pipeline.core import label_sets
from pipeline.core.errors import InputError, Missing, StorageError
from pipeline.storage import read_url

SHOWN = 50
"""Names that a message lists."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What becomes of labels: a label that is not named stays, one that maps to None goes.

    Attributes:
        to: what becomes of a label in the end, by its name.
        sha256: the digest of its file, or "" where there is none.
        steps: what the file has a label become, which may be a name that becomes another.
        lines: the line of each name in the file.
    """

    to: Mapping[str, str | None] = field(default_factory=dict)
    sha256: str = ""
    steps: Mapping[str, str | None] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)


def read(train: TrainParams) -> LabelMap:
    """Read the label map that `train.label_map` names; return an empty one if it is null.

    Raises:
        InputError: it cannot be read.
    """
    path = train.label_map
    if path is None:
        return LabelMap()
    try:
        data, _ = read_url(path)
    except (Missing, StorageError) as error:
        raise InputError(f"train.label_map: {error}") from error
    return parse(data, path)


def parse(data: bytes, name: str) -> LabelMap:
    """Parse a label map: a CSV with the columns `from` and `to`; an empty `to` drops the label.

    A label that becomes one that becomes another becomes that other.

    Raises:
        InputError: it is not such a file, says two things of one label, or goes round in a circle.
    """
    steps: dict[str, str | None] = {}
    lines: dict[str, int] = {}
    for line, old, new in _rows(data, name):
        at = f"train.label_map: {name}:{line}"
        if old is None:
            raise InputError(f"{at}: names no label")
        lines.setdefault(old, line)
        if steps.setdefault(old, new) != new:
            raise InputError(
                f"{at}: {old!r} becomes {new or 'nothing'!r}, and {steps[old] or 'nothing'!r} above"
            )
    to: dict[str, str | None] = {}
    for old in steps:
        _follow(old, steps, to, lines, name)
    return LabelMap(to, hashlib.sha256(data).hexdigest(), steps, lines)


def _rows(data: bytes, name: str) -> Iterator[tuple[int, str | None, str | None]]:
    """Give the line, and what it has a label become, of every row."""
    at = f"train.label_map: {name}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{at}: not UTF-8 ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [cell.strip().lower() for cell in next((row for row in reader if row), [])]
        if names.count("from") != 1 or names.count("to") != 1:
            raise InputError(f"{at}:1: needs the columns from and to, each once")
        for row in reader:
            if row and len(row) != len(names):
                said = f"has {len(row)} cells, and the header {len(names)}"
                raise InputError(
                    f"{at}:{reader.line_num}: {said}; a label that goes needs its comma"
                )
            if row:
                cells = dict(zip(names, row, strict=True))
                yield reader.line_num, _text(cells["from"]), _text(cells["to"])
    except csv.Error as error:
        raise InputError(f"{at}:{reader.line_num}: not a table: {error}") from error


def _text(cell: str | None) -> str | None:
    """Give a name as labels are compared: stripped, in Unicode's normal form C."""
    return unicodedata.normalize("NFC", (cell or "").strip()) or None


def _follow(
    old: str,
    steps: Mapping[str, str | None],
    to: dict[str, str | None],
    lines: Mapping[str, int],
    name: str,
) -> None:
    """Put into *to* what a label becomes in the end, and all on its way; one may become itself."""
    way: dict[str, None] = {}
    here: str | None = old
    while here is not None and here not in to and steps.get(here, here) != here:
        if here in way:
            circle = list(way)[list(way).index(here) :]
            raise InputError(
                f"train.label_map: {name}:{lines[circle[-1]]}: goes round in a circle: "
                f"{' → '.join(map(repr, [*circle, here]))}"
            )
        way[here] = None
        here = steps[here]
    end = to.get(here, here) if here is not None else None
    to |= dict.fromkeys([*way, old], end)


def check(label_map: LabelMap, labels: Collection[str], train: TrainParams) -> None:
    """Check that the names of a map are those of labels, as `train.label_map_check` asks.

    Args:
        label_map: the map.
        labels: of all chips, before the map.
        train: the section. "names": every name that the map says something of is a label, or what
            one becomes; "closed": and the map names every label; "open": neither.

    Raises:
        InputError: it is not so; the message has the names.
    """
    if train.label_map is None or train.label_map_check == "open":
        return
    where = f"train.label_map: {train.label_map.rpartition('/')[2]}"
    met = set(labels)
    for label in labels:
        step = label_map.steps.get(label)
        while step is not None and step not in met:
            met.add(step)
            step = label_map.steps.get(step)
    unused = [name for name in label_map.steps if name not in met]
    if unused:
        said = (f"{name!r} (line {label_map.lines[name]}{_near(name, labels)})" for name in unused)
        raise InputError(
            f"{where}: no chip has the label {_listed(said)}; mend the names or take the lines "
            "out, or set train.label_map_check to open"
        )
    named = {*label_map.steps, *label_map.steps.values()}
    unnamed = [repr(label) for label in sorted(labels) if label not in named]
    if train.label_map_check == "closed" and unnamed:
        raise InputError(
            f"{where}: does not name the label {_listed(unnamed)}; add a line for each (what stays "
            "becomes itself), or set train.label_map_check to names"
        )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN:,} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _near(name: str, labels: Collection[str]) -> str:
    nearest = get_close_matches(name, sorted(labels), n=1, cutoff=0.6)
    return f"; nearest: {nearest[0]!r}" if nearest else ""


def renamed(to: Mapping[str, str | None], label: str) -> str | None:
    """Give what becomes of *label*."""
    return to.get(label, label)


def renamed_all(to: Mapping[str, str | None], labels: str, separator: str) -> str:
    """Give what becomes of several labels: "" where none of them stays."""
    found = (renamed(to, label) for label in label_sets.split(labels, separator))
    return label_sets.join((label for label in found if label is not None), separator)
