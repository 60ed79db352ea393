"""Images that the decoder warned of: their pixels may be damaged, and are used."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Block, Gallery, Picture, ReportSection, Text
from pipeline.validate.report.page import breakable

ORDER = 91
N_SHOWN = 12
"""Images in the report, each by its first chip."""

METRICS = {"n_decoder_warnings": Metric("images with features that the decoder warned of")}


def analyse(data: ValidationData) -> Result:
    """List the images, and show a chip of the first ones."""
    chips = data.decoder_warnings.to_pandas()
    grouped = chips.groupby(["key", "decoder_warning"], sort=True)
    images = grouped.agg(n_chips=("chip_id", "size"), chip_id=("chip_id", "first")).reset_index()
    table = images[["key", "decoder_warning", "n_chips"]]
    blocks: list[Block] = []
    if len(images):
        what = (
            f"The decoder warned of {pluralize(len(images), 'images')}: a part of the pixels may "
            "be damaged. They are used; results/tables/decoder_warnings.csv lists them."
        )
        blocks.append(Text(what))
        if data.validate.gallery_size and (items := _items(data, images.head(N_SHOWN))):
            blocks.append(Gallery(items, "Images that may be damaged", "warned"))
    return Result(
        metrics={"n_decoder_warnings": len(images)},
        tables={"decoder_warnings": table},
        sections=[ReportSection("rejects", "", blocks)] if blocks else [],
    )


def _items(data: ValidationData, images: pd.DataFrame) -> list[tuple[list[Picture], Markup]]:
    pictures = data.pictures(images["chip_id"].tolist(), len(images))
    return [
        (
            [Picture(pictures[row.chip_id], f"a chip of {row.key}")],
            Markup("{}<br>{}").format(breakable(row.key), row.decoder_warning),
        )
        for row in images.itertuples()
        if row.chip_id in pictures
    ]
