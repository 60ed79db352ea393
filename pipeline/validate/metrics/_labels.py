"""Which labels there are, and of how many chips: before the label map, after it, and in pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import pyarrow as pa

from pipeline.core import label_sets

SPLITS = ("train", "calibration", "validation")


def counts(
    labels: pa.Table, to: Mapping[str, str | None], separator: str | None = None
) -> pd.DataFrame:
    """Count the chips of every label, commonest first.

    Args:
        labels: schemas.LABELS.
        to: what becomes of each label, as the classifier's card has it.
        separator: between the labels of a chip; None: it has one.

    Returns:
        `label`, `becomes` (blank where it is left out), and the number of chips in each of SPLITS.
    """
    found = {split: _each(table, separator) for split, table in _splits(labels).items()}
    names = sorted({name for counted in found.values() for name in counted})
    rows = [
        (name, to.get(name, name) or "", *(found[split][name] for split in SPLITS))
        for name in names
    ]
    return _commonest_first(pd.DataFrame(rows, columns=["label", "becomes", *SPLITS]))


def classes(
    labels: pa.Table, to: Mapping[str, str | None], separator: str | None = None
) -> pd.DataFrame:
    """Count the chips of every class, which is what labels become, commonest first.

    A chip with several labels that become one class counts once.

    Returns:
        `class`, `labels` (how many become it), and the number of chips in each of SPLITS.
    """
    found = {split: _became(table, to, separator) for split, table in _splits(labels).items()}
    of: Counter[str] = Counter()
    for name in {name for table in _splits(labels).values() for name in _each(table, separator)}:
        of[to.get(name, name) or ""] += 1
    names = sorted({name for counted in found.values() for name in counted})
    rows = [(name, of[name], *(found[split][name] for split in SPLITS)) for name in names]
    return _commonest_first(pd.DataFrame(rows, columns=["class", "labels", *SPLITS]))


def together(labels: pa.Table, to: Mapping[str, str | None], separator: str) -> pd.DataFrame:
    """Count how many chips two classes share, most first; pairs that share none are left out.

    Returns:
        `class`, `with`, `chips`, and `share`: of the rarer class's chips those that it shares.
    """
    alone: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for text, count in _texts(labels).items():
        own = sorted(_renamed(text, to, separator))
        for name in own:
            alone[name] += count
        for pair in combinations(own, 2):
            pairs[pair] += count
    rows = [
        (first, second, count, count / min(alone[first], alone[second]))
        for (first, second), count in pairs.items()
    ]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return pd.DataFrame(rows, columns=["class", "with", "chips", "share"])


def _commonest_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by the chips in all splits; *table* is sorted by its names."""
    chips = table[list(SPLITS)].sum(axis=1)
    order = chips.sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _splits(labels: pa.Table) -> dict[str, Counter[str]]:
    """Give, for each split, how many chips have each text of labels."""
    said = labels.filter(labels["label"].is_valid()).group_by(["split", "label"])
    found: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for row in said.aggregate([([], "count_all")]).to_pylist():
        found[row["split"]][row["label"]] = row["count_all"]
    return found


def _texts(labels: pa.Table) -> Counter[str]:
    return sum(_splits(labels).values(), Counter())


def _each(texts: Counter[str], separator: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text, count in texts.items():
        for label in label_sets.split(text, separator):
            counted[label] += count
    return counted


def _renamed(text: str, to: Mapping[str, str | None], separator: str | None) -> set[str]:
    found = (to.get(label, label) for label in label_sets.split(text, separator))
    return {name for name in found if name is not None}


def _became(
    texts: Counter[str], to: Mapping[str, str | None], separator: str | None
) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text, count in texts.items():
        for name in _renamed(text, to, separator):
            counted[name] += count
    return counted
