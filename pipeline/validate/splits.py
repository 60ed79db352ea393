"""How the chips were split: in numbers, in words, and whether it leaks."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.validate.report import SplitCount


def counts(labels: pa.Table) -> dict[str, SplitCount]:
    """Count groups, chips and labelled chips of each split."""
    found = {}
    for split in ("train", "calibration", "validation"):
        some = labels.filter(pc.equal(labels["split"], split))
        labelled = some.num_rows - some["label"].null_count
        groups = pc.count_distinct(some["group"]).as_py()
        found[split] = SplitCount(chips=some.num_rows, groups=groups, labelled=labelled)
    return found


def group_in_words(by: str) -> str:
    """Say what `split.by` takes for a group."""
    known = {
        "group": "what the annotations name as one, and an image where they name none",
        "image": "an image",
        "folder": "a folder of images",
        "day": "the images of one day, and an image by itself where the day is not known",
        "place": "the images of one place, to a hundredth of a degree, and an image by itself "
        "where the place is not known",
    }
    return known.get(by, f"all images of one {by}, and an image by itself where it is not known")


def shares_in_words(split: SplitParams) -> str:
    """Say which shares of the groups go where."""
    train = 1 - split.validation - split.calibration
    return (
        f"about {100 * train:.4g} of a hundred groups are learnt from, "
        f"{100 * split.calibration:.4g} are for calibration and {100 * split.validation:.4g} for "
        "validation"
    )


def straddling(labels: pa.Table) -> int:
    """Count groups that lie in more than one split: the proof that there are none."""
    of_group = (
        labels.select(["group", "split"]).group_by("group").aggregate([("split", "count_distinct")])
    )
    return int(pc.sum(pc.greater(of_group["split_count_distinct"], 1)).as_py() or 0)
