"""How the chips were split, and whether a group leaks from one split into another."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Block, ReportSection, Table, Text

ORDER = 70
SPLITS = ("train", "calibration", "validation")

METRICS = {
    "n_leaking_groups": Metric("groups with chips in more than one split; there should be none")
}

GROUPS = {
    "group": "what the annotations name as one, or an image if they name none",
    "image": "an image",
    "folder": "a folder of images",
    "day": "the images of one day, or one image if its day is unknown",
    "place": "the images of one place, to a hundredth of a degree, or one image if its place is "
    "unknown",
}
"""What a group is, by `split.by`."""


def analyse(data: ValidationData) -> Result:
    """Count the chips of each split, and the groups that are in several."""
    leaking = n_leaking_groups(data.labels)
    split = data.params.split
    blocks: list[Block] = [
        Text(_explained(split, leaking)),
        Table(
            "Splits",
            {"Split": "text", "Groups": "count", "Chips": "count", "Labelled": "count"},
            counts(data.labels),
            "Chips without a label are in a split, too, but are neither trained on nor evaluated.",
            style="narrow",
            order=None,
        ),
    ]
    notes = []
    if leaking:
        notes.append(
            f"{pluralize(leaking, 'groups')} {'has' if leaking == 1 else 'have'} chips in more "
            "than one split: the classifier was trained on groups that it is evaluated on, and "
            "every metric here is too good."
        )
    return Result(
        metrics={"n_leaking_groups": leaking},
        notes=notes,
        sections=[ReportSection("splits", "How the chips were split", blocks, "Splits")],
    )


def _explained(split: SplitParams, leaking: int) -> str:
    group = GROUPS.get(
        split.by, f"all images of one {split.by}, or one image if its {split.by} is unknown"
    )
    train = 1 - split.validation - split.calibration
    checked = (
        f"{pluralize(leaking, 'groups')} {'is' if leaking == 1 else 'are'} in more than one split."
        if leaking
        else "Checked: no group is in more than one split."
    )
    return (
        f"A group is {group}. The hash of its name decides its split, and with it that of all its "
        f"chips: of a hundred groups, about {100 * train:.4g} are for training, "
        f"{100 * split.calibration:.4g} for calibration and {100 * split.validation:.4g} for "
        f"validation. So no chip moves to another split when others are added. {checked}"
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


def n_leaking_groups(labels: pa.Table) -> int:
    """Count the groups that are in more than one split."""
    groups = labels.select(["group", "split"]).group_by("group")
    splits = groups.aggregate([("split", "count_distinct")])["split_count_distinct"]
    return int(pc.sum(pc.greater(splits, 1)).as_py() or 0)
