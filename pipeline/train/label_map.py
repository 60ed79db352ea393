"""Label maps: labels that are merged or dropped when a classifier is trained and evaluated."""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from pipeline.config.sections import TrainParams
from pipeline.core import label_sets
from pipeline.core.errors import InputError, Missing, StorageError
from pipeline.storage import read_url

OTHER = "other"
"""The class into which rare ones are merged."""

SHOWN = 50
"""Labels that a message lists."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What each label becomes: itself if the map does not name it; None drops it.

    Attributes:
        to: what each label becomes in the end.
        sha256: the digest of the file; "" without one.
        steps: what the file says of each label, which may lead to another label that it names.
        lines: the line of each label in the file.
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

    Chains are followed: with a → b and b → c, label a becomes c.

    Raises:
        InputError: it is not such a file, has a label become two things, or has a circle.
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
    return LabelMap(_ends(steps, lines, name), hashlib.sha256(data).hexdigest(), steps, lines)


def _rows(data: bytes, name: str) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield the line and the cells `from` and `to` of each row; None if a cell is empty."""
    at = f"train.label_map: {name}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{at}: not UTF-8 ({error})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next((row for row in reader if row), [])]
        if header.count("from") != 1 or header.count("to") != 1:
            raise InputError(f"{at}:1: needs the columns from and to, each once")
        for row in filter(None, reader):
            if len(row) != len(header):
                raise InputError(
                    f"{at}:{reader.line_num}: has {len(row)} cells, and the header {len(header)}; "
                    "a label to drop needs its comma, too"
                )
            cells = dict(zip(header, row, strict=True))
            yield reader.line_num, _label(cells["from"]), _label(cells["to"])
    except csv.Error as error:
        raise InputError(f"{at}:{reader.line_num}: not a table: {error}") from error


def _label(cell: str) -> str | None:
    """Return the label in *cell* as the labels table has it: stripped, in Unicode's NFC form."""
    return unicodedata.normalize("NFC", cell.strip()) or None


def _ends(
    steps: Mapping[str, str | None], lines: Mapping[str, int], name: str
) -> dict[str, str | None]:
    """Return what each label becomes in the end; a label may become itself."""
    ends: dict[str, str | None] = {}
    for old in steps:
        chain: dict[str, None] = {}
        label: str | None = old
        while label is not None and label not in ends and steps.get(label, label) != label:
            if label in chain:
                circle = list(chain)[list(chain).index(label) :]
                raise InputError(
                    f"train.label_map: {name}:{lines[circle[-1]]}: goes round in a circle: "
                    f"{' → '.join(map(repr, [*circle, label]))}"
                )
            chain[label] = None
            label = steps[label]
        end = None if label is None else ends.get(label, label)
        ends |= dict.fromkeys([*chain, old], end)
    return ends


def check(label_map: LabelMap, labels: Collection[str], train: TrainParams) -> None:
    """Check the labels that a map names against all *labels*, by `train.label_map_check`.

    With "names", each label of the column `from` must be one of *labels*, or what one becomes on
    its way; with "closed", the map must also name all of *labels*; "open" checks nothing.

    Raises:
        InputError: the check fails, or `check_other` does; the message lists the labels.
    """
    check_other(label_map, labels, train)
    if train.label_map is None or train.label_map_check == "open":
        return
    where = f"train.label_map: {train.label_map.rpartition('/')[2]}"
    reached: set[str] = set()
    for label in labels:
        step: str | None = label
        while step is not None and step not in reached:
            reached.add(step)
            step = label_map.steps.get(step)
    unused = [
        f"{name!r} (line {line}{_nearest(name, labels)})"
        for name, line in label_map.lines.items()
        if name not in reached
    ]
    if unused:
        raise InputError(
            f"{where}: no chip has the label {_listed(unused)}; fix the names or remove the lines, "
            "or set train.label_map_check to open"
        )
    named = {*label_map.steps, *label_map.steps.values()}
    unnamed = [repr(label) for label in sorted(labels) if label not in named]
    if train.label_map_check == "closed" and unnamed:
        raise InputError(
            f"{where}: does not name the label {_listed(unnamed)}; add a line for each (a label to "
            "keep becomes itself), or set train.label_map_check to names"
        )


def check_other(label_map: LabelMap, labels: Collection[str], train: TrainParams) -> None:
    """Check that no label is named as the class into which rare ones are merged.

    Raises:
        InputError: one of *labels* is, or becomes so by the label map.
    """
    if train.rare_classes != "merge":
        return
    own = sorted(label for label in labels if renamed(label_map.to, label) == OTHER)
    if own:
        raise InputError(
            f"train.rare_classes: merge puts rare classes into one named {OTHER!r}, which is a "
            f"label already ({_listed(list(map(repr, own)))}): its chips would become one "
            "class with them; give it another name in train.label_map, or set train.rare_classes "
            "to keep or drop"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _nearest(name: str, labels: Collection[str]) -> str:
    nearest = get_close_matches(name, labels)
    return f"; nearest: {nearest[0]!r}" if nearest else ""


def renamed(to: Mapping[str, str | None], label: str) -> str | None:
    """Return what *label* becomes; None: it is dropped."""
    return to.get(label, label)


def renamed_all(to: Mapping[str, str | None], labels: str, separator: str | None) -> str:
    """Return what the labels of a row become, as one text: "" if all of them are dropped."""
    names = (renamed(to, label) for label in label_sets.split(labels, separator))
    return label_sets.join((name for name in names if name is not None), separator or "")
