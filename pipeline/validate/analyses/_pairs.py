"""Pairs of chips, side by side in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.validate.data import ValidationData
from pipeline.validate.report.blocks import Picture

N_SHOWN = 6
"""Pairs in a gallery: 1.2 MB of pictures at most."""

Row = dict[str, Any]


def pictured(
    data: ValidationData, rows: Sequence[Row], caption: Callable[[Row], Markup]
) -> list[tuple[list[Picture], Markup]]:
    """Return the first N_SHOWN pairs, with their pictures, for a Gallery.

    Args:
        data: of the classifier.
        rows: `chip_id` in hex, `key`, `row`, `col`, and the same of the other chip as `near_…`.
            Those whose image cannot be decoded are left out.
        caption: returns what is said of a pair.
    """
    rows = rows[:N_SHOWN]
    pairs = [[bytes.fromhex(row[name]) for name in ("chip_id", "near_chip_id")] for row in rows]
    wanted = sorted({chip for pair in pairs for chip in pair})
    pictures = data.pictures(wanted, len(wanted))
    return [
        (
            [
                Picture(
                    pictures[chip],
                    f"{row[f'{side}key']} around row {row[f'{side}row']}, column "
                    f"{row[f'{side}col']}",
                )
                for chip, side in zip(pair, ("", "near_"), strict=True)
            ],
            caption(row),
        )
        for row, pair in zip(rows, pairs, strict=True)
        if all(chip in pictures for chip in pair)
    ]


def places(row: Row) -> Markup:
    """Return where the two chips of a pair are, for its caption."""
    return Markup("<small>{} · {}, {}</small><small>{} · {}, {} ({})</small>").format(
        *(row[name] for name in ("key", "row", "col")),
        *(row[f"near_{name}"] for name in ("key", "row", "col", "split")),
    )


def labels(row: Row) -> Markup:
    """Return the labels of the two chips of a pair, for its caption."""
    text = Markup("<strong>{}</strong>").format(row["label"])
    if row["label"] != row["near_label"]:
        text += Markup(", there <strong>{}</strong>").format(row["near_label"])
    return text
