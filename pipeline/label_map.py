"""Label maps: labels rolled up into others, or dropped, when a classifier is trained and judged."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline import multilabel
from pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What becomes of labels: a label that is not named stays, one that maps to None goes.

    Attributes:
        to: the new label by the old.
        sha256: the digest of its file, or "" where there is none.
    """

    to: Mapping[str, str | None] = field(default_factory=dict)
    sha256: str = ""


def read_map(data: bytes, name: str) -> LabelMap:
    """Read a label map: a CSV with the columns `from` and `to`; an empty `to` drops the label.

    Raises:
        InputError: it is not such a file, or says two things of one label.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"train.label_map: {name}: not UTF-8 ({error})") from error
    lines = csv.DictReader(io.StringIO(text))
    if not {"from", "to"} <= set(lines.fieldnames or ()):
        raise InputError(f"train.label_map: {name}:1: needs the columns from and to")
    found: dict[str, str | None] = {}
    for line in lines:
        old, new = (line["from"] or "").strip(), (line["to"] or "").strip() or None
        if not old:
            raise InputError(f"train.label_map: {name}:{lines.line_num}: names no label")
        if found.setdefault(old, new) != new:
            raise InputError(
                f"train.label_map: {name}:{lines.line_num}: {old!r} becomes {new or 'nothing'!r}, "
                f"and {found[old] or 'nothing'!r} above"
            )
    return LabelMap(found, hashlib.sha256(data).hexdigest())


def renamed(to: Mapping[str, str | None], label: str) -> str | None:
    """Give what becomes of *label*."""
    return to.get(label, label)


def renamed_all(to: Mapping[str, str | None], labels: str, separator: str) -> str:
    """Give what becomes of several labels: "" where none of them stays."""
    found = (renamed(to, label) for label in multilabel.split(labels, separator))
    return multilabel.join((label for label in found if label is not None), separator)
