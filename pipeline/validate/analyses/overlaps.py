"""Windows of different splits that share pixels, and images that are in several splits."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.overlaps import MAX_ROWS, Overlaps
from pipeline.validate.report.blocks import Block, Gallery, Picture, ReportSection, Text
from pipeline.validate.report.page import share

ORDER = 71
N_SHOWN = 6
"""Pairs in the report: 1.2 MB of pictures at most."""

METRICS = {
    "n_images_in_several_splits": Metric("images with labelled chips in more than one split"),
    "n_overlapping_windows": Metric(
        "pairs of chips of different splits whose windows share pixels of one image"
    ),
}


def analyse(data: ValidationData) -> Result:
    """List the windows that share pixels across splits, and show those that share most."""
    found = data.overlaps
    blocks: list[Block] = [Text(_explained(found))]
    if found.n_pairs and data.validate.gallery_size and (items := _items(data, found)):
        blocks.append(Text(f"These share most.{_listed('overlaps', found.n_pairs)}"))
        blocks.append(Gallery(items, "Overlapping windows", "pairs"))
    return Result(
        metrics={
            "n_images_in_several_splits": found.n_images,
            "n_overlapping_windows": found.n_pairs,
        },
        tables={"overlaps": found.table, "images_in_several_splits": found.images},
        notes=_notes(found),
        sections=[ReportSection("splits", "", blocks)],
    )


def _notes(found: Overlaps) -> list[str]:
    notes = []
    if n := found.n_pairs:
        notes.append(
            f"{pluralize(n, 'pairs')} of chips in different splits {'has' if n == 1 else 'have'} "
            "pixels in common: the classifier was trained on part of what it is evaluated on. Put "
            "what is in one image into one group (split.by: image, or a larger one)."
        )
    elif n := found.n_images:
        notes.append(
            f"{pluralize(n, 'images')} {'has' if n == 1 else 'have'} chips in more than one split. "
            "Their windows share no pixels, but one image has one light, water and background: "
            "the metrics here say less of new images (split.by: image, or a larger group)."
        )
    return notes


def _explained(found: Overlaps) -> str:
    if not (found.n_images or found.n_pairs):
        return (
            "Checked: no image is in more than one split, and no windows of different splits share "
            "pixels."
        )
    are = "is" if found.n_images == 1 else "are"
    do = "shares" if found.n_pairs == 1 else "share"
    return (
        f"{pluralize(found.n_images, 'images')} {are} in more than one split."
        f"{_listed('images_in_several_splits', found.n_images)} "
        f"{pluralize(found.n_pairs, 'pairs')} of windows of different splits {do} pixels of one "
        "image, or of two with the same bytes."
    )


def _listed(name: str, n: int) -> str:
    which = f"the first {MAX_ROWS:,} of" if n > MAX_ROWS else "all of"
    return f" results/tables/{name}.csv lists {which} them." if n else ""


def _items(data: ValidationData, found: Overlaps) -> list[tuple[list[Picture], Markup]]:
    rows: list[dict[str, Any]] = found.table.head(N_SHOWN).to_dict("records")
    pairs = [[bytes.fromhex(row[name]) for name in ("chip_id", "other_chip_id")] for row in rows]
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
                for chip, side in zip(pair, ("", "other_"), strict=True)
            ],
            _caption(row),
        )
        for row, pair in zip(rows, pairs, strict=True)
        if all(chip in pictures for chip in pair)
    ]


def _caption(row: dict[str, Any]) -> Markup:
    places = [
        Markup("<small>{} · {}, {} ({})</small>").format(
            *(row[f"{side}{name}"] for name in ("key", "row", "col", "split"))
        )
        for side in ("", "other_")
    ]
    labels = Markup("<strong>{}</strong>").format(row["label"])
    if row["label"] != row["other_label"]:
        labels += Markup(", there <strong>{}</strong>").format(row["other_label"])
    common = Markup("; {} of the smaller window in common").format(share(row["share"]))
    return labels + common + Markup("").join(places)
