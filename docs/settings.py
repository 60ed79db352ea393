"""Descriptions for docs/reference/params.md that no section has: costs, and settings of parts.

`SECTION.NAME` describes a setting of every part that has it, `PART.NAME` that of one part.
"""

from __future__ import annotations

COSTS = {
    "bucket": "Where the images are. A change costs the features of images that are new.",
    "index": "What goes into the index beside the headers. A change reads no image; it costs "
    "training if `split.by` names one of the fields.",
    "annotations": "Where the labels are. A change costs training, and the features of points that "
    "are new. See [annotations](../how-to/annotations.md).",
    "chip": "What a chip is. A change costs features.",
    "split": "How chips are divided. A change costs training. See "
    "[splits](../explanation/splits.md).",
    "shards": "How the tables are divided into files. A change costs nothing: rows are copied.",
    "extract": "How features are computed. A change costs features; changing back costs nothing.",
    "train": "How the classifier is trained. A change costs training, and no feature.",
    "validate": "How the classifier is evaluated. A change costs the results.",
}

OF_PARTS = {
    "annotations.columns": "the names of the columns, where they are not the usual ones",
    "annotations.encoding": "of text without a byte-order mark",
    "annotations.frame": "what rows and columns are in: the image as `stored`, or as `displayed`, "
    "turned by its EXIF orientation; null: as the format's tool has it",
    "annotations.group": "the column with the group",
    "annotations.growth_form": "whether the growth form is part of the label",
    "annotations.image": "the field of a task's data that has the image",
    "annotations.keep_unconfirmed": "use labels that a machine gave and nobody has confirmed",
    "annotations.label": "the column with the label",
    "labelstudio.label": "the control of the labelling interface whose labels count; null: all",
    "annotations.label_separator": "what is between the labels of a chip with several; null: a "
    "chip has one label",
    "annotations.labelled_by": "under `grid` and `whole`, a chip has the label of the object that "
    "covers its centre, or of those that cover most of it",
    "annotations.prefix": "what is before an image's name in its key",
    "chip.background": "windows for each image, where nobody has annotated anything",
    "chip.edge": "at the far edge: drop the last window, pad it by reflection, or shift it back",
    "chip.max_nodata": "chips with a larger share of no-data are left out",
    "chip.nodata": "how pixels without data are marked: a value, `alpha`, or the keys of masks",
    "chip.size": "the side of a chip in pixels",
    "boxes.size": "null: the box of each object; or the side of a square around its centre",
    "chip.stride": "pixels from window to window; null: the size",
}
