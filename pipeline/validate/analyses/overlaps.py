"""Windows of different splits that share pixels, and images that are in several splits."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result, _pairs
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.overlaps import MAX_ROWS, Overlaps
from pipeline.validate.report.blocks import Block, Gallery, ReportSection, Text
from pipeline.validate.report.page import share

ORDER = 71

METRICS = {
    "n_divided_images": Metric("images with labelled chips in more than one split"),
    "n_overlapping_chips": Metric("validation chips that share pixels with one of another split"),
    "n_overlapping_pairs": Metric("pairs of chips of different splits that share pixels"),
}


def analyse(data: ValidationData) -> Result:
    """List the windows that share pixels across splits, and show those that share most."""
    found = data.overlaps
    blocks: list[Block] = [Text(_explained(found))]
    rows = found.table.head(_pairs.N_SHOWN).to_dict("records")
    if rows and data.validate.gallery_size and (items := _pairs.pictured(data, rows, _caption)):
        blocks.append(Text(f"These share most.{_listed('overlapping_chips', found.n_pairs)}"))
        blocks.append(Gallery(items, "Chips that share pixels", "pairs"))
    return Result(
        metrics={
            "n_divided_images": found.n_images,
            "n_overlapping_chips": found.n_validation,
            "n_overlapping_pairs": found.n_pairs,
        },
        tables={"overlapping_chips": found.table, "divided_images": found.images},
        notes=_notes(found),
        sections=[ReportSection("splits", "", blocks)],
    )


def _notes(found: Overlaps) -> list[str]:
    notes = []
    if n := found.n_pairs:
        notes.append(
            f"{pluralize(n, 'pairs')} of chips in different splits {'has' if n == 1 else 'have'} "
            f"pixels in common, and {pluralize(found.n_validation, 'validation chips')} "
            f"{'is' if found.n_validation == 1 else 'are'} among them: the classifier was trained "
            "on part of what it is evaluated on. Put what is in one image into one group "
            "(split.by: image, or a larger one)."
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
        f"{_listed('divided_images', found.n_images)} "
        f"{pluralize(found.n_pairs, 'pairs')} of windows of different splits {do} pixels of one "
        "image, or of two with the same bytes."
    )


def _listed(name: str, n: int) -> str:
    which = f"the first {MAX_ROWS:,} of" if n > MAX_ROWS else "all of"
    return f" results/tables/{name}.csv lists {which} them." if n else ""


def _caption(row: _pairs.Row) -> Markup:
    common = Markup("; {} of the smaller window in common").format(share(row["share"]))
    return _pairs.labels(row) + common + _pairs.places(row)
