"""EcoTaxa: a TSV with one line an image, `object_` columns and perhaps a line of types.

What people have validated is a label; `predicted` and `dubious` are left out and counted, unless
`keep_unconfirmed` is set. Images of one object are one group, or whatever column `group` names, as
`sample_id`.

Source: https://ecotaxa.obs-vlfr.fr import instructions, and github.com/ecotaxa/ecotaxa_back
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _rows
from pipeline.annotations._answers import WrittenAnnotations
from pipeline.core.errors import InputError, Rejected
from pipeline.core.rejects import Reject

LEVEL = "image"

NAMES = {
    "image": ("img_file_name",),
    "object": ("object_id",),
    "label": ("object_annotation_category",),
    "status": ("object_annotation_status",),
}
TYPES = ("[t]", "[f]")
CONFIRMED = "validated"


class Settings(_rows.Table):
    """The settings of `annotations.format: ecotaxa`."""

    group: str = "object_id"
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read one of EcoTaxa's TSV files; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is not one, or names no images.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(
        _images(source, params, rejects), source, params.label_separator
    )
    return table, rejects + conflicts


def _images(
    source: AnnotationSource, params: Settings, rejects: list[Reject]
) -> Iterator[_rows.Annotation]:
    wanted = {**NAMES, "group": (params.group,)}
    needed = [name for name in wanted if name not in {"object", "status"}]
    for line, cells in _rows.records(source, params, wanted, needed):
        if cells.get("image", "").strip().lower() in TYPES:
            continue
        key, at = params.prefix + cells.get("image", "").strip(), f"{source.name}:{line}"
        try:
            _rows.image(cells, at)
            label = _rows.label(cells["label"], params.label_separator)
            group = _rows.text(cells["group"])
            yield _rows.Annotation(key, _confirmed(cells, label, params, at), line, group=group)
        except Rejected as rejected:
            rejects.append(Reject("chip", key, rejected.reason, rejected.detail))


def _confirmed(cells: dict[str, str], label: str | None, params: Settings, at: str) -> str | None:
    """Give the label if somebody has confirmed it; an object without one is unlabelled."""
    status = cells.get("status", CONFIRMED).strip().lower()
    if label is None or status == CONFIRMED or params.keep_unconfirmed:
        return label
    raise Rejected("unconfirmed", f"{at}: the label is {status or 'without a status'}")


def write(answers: WrittenAnnotations) -> bytes:
    """Give a TSV for EcoTaxa's import: the answers as `predicted`, people's labels as `validated`.

    The object's name is the image's without its ending. Import it to update what is there.

    Raises:
        InputError: a chip is a part of an image: there, an image is an object; or two images would
            be one object.
    """
    objects: dict[str, str] = {}
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter="\t", lineterminator="\n")
    writer.writerow(
        ["img_file_name", "object_id", *(NAMES[name][0] for name in ("label", "status"))]
    )
    writer.writerow([TYPES[0]] * len(NAMES))
    for chip in answers.rows:
        if not chip.is_whole:
            raise InputError(f"ecotaxa: an object there is an image, and {chip.key} has chips")
        name = answers.name(chip.key)
        stem = name.rpartition("/")[2].rpartition(".")[0] or name
        if objects.setdefault(stem, chip.key) != chip.key:
            raise InputError(
                f"ecotaxa: {objects[stem]} and {chip.key} would be one object there, {stem}; "
                "import them into different projects"
            )
        if chip.answer is not None:
            status = CONFIRMED if chip.score is None else "predicted"
            writer.writerow([name, stem, chip.answer, status])
    return sink.getvalue().encode()
