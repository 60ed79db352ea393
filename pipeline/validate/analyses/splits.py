"""How the chips were split."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.report.blocks import Block, ReportSection, Table, Text

ORDER = 70
SPLITS = ("train", "calibration", "validation")

GROUPS = {
    "group": "what the annotations name as one, or an image if they name none",
    "image": "an image",
    "folder": "a folder of images",
    "day": "the images of one day, or one image if its day is unknown",
    "place": "the images of one place, to a hundredth of a degree, or one image if its place is "
    "unknown",
}
"""What a group is, by `split.by`."""


FINAL = (
    "The final classifier is trained on the training and the calibration split. It has seen no "
    "validation chip: all figures of this report are its own. Its calibration, its thresholds, and "
    "what the report says of the labels of the calibration split are of a classifier that was "
    "trained without that split."
)


def analyse(data: ValidationData) -> Result:
    """Count the chips of each split."""
    blocks: list[Block] = [
        Text(_explained(data.params.split)),
        *([Text(FINAL)] if "held_out" in data.card else []),
        Table(
            "Splits",
            {"Split": "text", "Groups": "count", "Chips": "count", "Labelled": "count"},
            counts(data.labels),
            "Chips without a label are in a split, too, but are neither trained on nor evaluated.",
            style="narrow",
            order=None,
        ),
    ]
    return Result(
        sections=[ReportSection("splits", "How the chips were split", blocks, "Splits")],
    )


def _explained(split: SplitParams) -> str:
    group = GROUPS.get(
        split.by, f"all images of one {split.by}, or one image if its {split.by} is unknown"
    )
    train = 1 - split.validation - split.calibration - split.test
    test = f", and {100 * split.test:.4g} are set aside for a test" if split.test else ""
    return (
        f"A group is {group}. The hash of its name decides its split, and with it that of all its "
        f"chips: of a hundred groups, about {100 * train:.4g} are for training, "
        f"{100 * split.calibration:.4g} for calibration and {100 * split.validation:.4g} for "
        f"validation{test}. So no chip moves to another split when others are added."
    )


def counts(labels: pa.Table) -> list[tuple[str, int, int, int]]:
    """Return groups, chips and labelled chips of each split of schemas.LABELS."""
    rows = []
    for name in SPLITS:
        split = labels.filter(pc.equal(labels["split"], name))
        n_groups = pc.count_distinct(split["group"]).as_py()
        n_labelled = split.num_rows - split["label"].null_count
        rows.append((name, n_groups, split.num_rows, n_labelled))
    return rows
