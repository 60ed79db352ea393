"""EcoTaxa: a TSV with one line an image, `object_` columns and perhaps a line of types.

Only `validated` labels are read; `predicted` and `dubious` ones are rejects, unless
`keep_unconfirmed` is set. The images of an object are one group; `group` can name another column,
such as `sample_id`.

Source: https://ecotaxa.obs-vlfr.fr import instructions, and github.com/ecotaxa/ecotaxa_back
"""

from __future__ import annotations

from typing import Any

from pipeline.annotations import TableSettings
from pipeline.annotations._table import Cells, TableFormat, labelled
from pipeline.annotations._written import WrittenAnnotations, csv_bytes
from pipeline.core.errors import InputError, Rejected

LEVEL = "image"

COLUMNS = {
    "image": ("img_file_name",),
    "object": ("object_id",),
    "label": ("object_annotation_category",),
    "status": ("object_annotation_status",),
}
TYPES = ("[t]", "[f]")
CONFIRMED = "validated"


class Settings(TableSettings):
    """The settings of `annotations.format: ecotaxa`."""

    group: str = "object_id"
    keep_unconfirmed: bool = False


def _image(cells: Cells, settings: Settings) -> dict[str, Any] | None:
    if cells["image"].strip().lower() in TYPES:
        return None
    fields = labelled(cells, settings)
    status = cells.get("status", CONFIRMED).strip().lower()
    if fields["label"] is None or status == CONFIRMED or settings.keep_unconfirmed:
        return fields
    raise Rejected("unconfirmed", f"the label is {status or 'without a status'}")


TABLE = TableFormat(COLUMNS, required=("image", "label"), parse=_image, image_name=str.strip)
read = TABLE.read


def write(annotations: WrittenAnnotations) -> bytes:
    """Return a TSV that updates objects: predictions as `predicted`, people's labels `validated`.

    An object is named after its image, without folders and extension. Raises InputError if a chip
    is only a part of its image, or if two images would be one object.
    """
    header = [COLUMNS[field][0] for field in ("image", "object", "label", "status")]
    rows = [header, [TYPES[0]] * len(header)]
    keys: dict[str, str] = {}
    for chip in annotations.rows:
        if not chip.is_whole:
            raise InputError(f"ecotaxa: an object there is an image; {chip.key} has several chips")
        name = annotations.name(chip.key)
        stem = name.rpartition("/")[2].rpartition(".")[0] or name
        if keys.setdefault(stem, chip.key) != chip.key:
            what = f"{keys[stem]} and {chip.key} would be the same object there, {stem}"
            raise InputError(f"ecotaxa: {what}; import them into different projects")
        if chip.label_to_write is not None:
            status = CONFIRMED if chip.score is None else "predicted"
            rows.append([name, stem, chip.label_to_write, status])
    return csv_bytes(rows, delimiter="\t")
