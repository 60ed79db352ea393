"""Tables of other people's: Parquet, CoralNet, MERMAID, EcoTaxa."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED

from pipeline.annotations import Source, coralnet, ecotaxa, images, mermaid, points
from pipeline.annotations._answers import Answers, Chip
from pipeline.errors import InputError


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def read(part, data, **settings):
    name = part.__name__.rpartition(".")[2]
    params = part.Params(format=name, path=f"x/{name}", **settings)
    raw = data if isinstance(data, bytes) else data.encode()
    table, rejects = part.read(Source("said", raw, []), params)
    rows = [tuple(row.values()) for row in table.drop_columns(["line"]).to_pylist()]
    return rows, [(reject.reason, reject.detail) for reject in rejects]


def test_points_in_parquet_are_those_of_a_csv():
    columns = {
        "Image": ["a.jpg", "a.jpg", "b.jpg", None],
        "row": pa.array([1, 2, None, 1], pa.int16()),
        "col": pa.array([2.0, 3.5, 1.0, 1.0]),
        "label": pa.array(["01", "NA", "x", "y"]).dictionary_encode(),
    }
    assert read(points, parquet(**columns)) == (
        [("a.jpg", 1, 2, "01", None)],
        [
            ("not_a_pixel", "said:2: column '3.5' is not a whole number"),
            ("not_a_pixel", "said:3: row '' is not a whole number"),
            ("unreadable_row", "said:4: the line names no image"),
        ],
    )


def test_labels_in_a_list_are_several_labels_or_a_conflict():
    columns = {"image": ["a.jpg", "b.jpg", "c.jpg"], "label": [["fish", "crab"], [], ["crab"]]}
    rows, rejects = read(images, parquet(**columns), label_separator=";")
    assert [row[3] for row in rows] == ["crab;fish", None, "crab"]
    assert rejects == []
    rows, rejects = read(images, parquet(**columns))
    assert [row[0] for row in rows] == ["b.jpg", "c.jpg"]
    assert rejects == [
        (
            "label_conflict",
            "said:1: a.jpg is 'crab' here and 'fish' in line 1; both rejected as label_conflict",
        )
    ]


def test_a_damaged_parquet_file_is_refused_by_name():
    whole = parquet(image=["a.jpg"], label=["x"])
    with pytest.raises(InputError, match="^said: not a Parquet file that can be read: "):
        read(images, whole[:-20])
    with pytest.raises(InputError, match="^said:1: no column for label among image, kind; set"):
        read(images, parquet(image=["a.jpg"], kind=["x"]))


CORALNET = """Name,Row,Column,Label code,Annotator,Date annotated,Machine suggestion 1,\
Machine confidence 1
IMG_0056.jpg,1528,426,Porit,Imported,2023-05-01,,
IMG_0056.jpg,786,1104,CCA,robot,,CCA,61
IMG_0056.jpg,39,1576,,,,,
"""


def test_coralnets_export():
    rows, rejects = read(coralnet, CORALNET, prefix="2023/")
    assert rows == [
        ("2023/IMG_0056.jpg", 39, 1576, None, None),
        ("2023/IMG_0056.jpg", 1528, 426, "Porit", None),
    ]
    assert rejects == [("unconfirmed", "said:3: the label is a machine's, unconfirmed")]


def test_coralnets_own_file_is_read_and_given_back_for_upload():
    path = SHARED / "reef" / "annotations.csv"
    if not path.exists():
        pytest.skip("the reef photographs are not here")
    rows, rejects = read(coralnet, path.read_bytes())
    assert len(rows) + 2 * len(rejects) == 3000
    chips = [
        Chip(key, row, col, (0, 0, 9, 9), 2000, 2000, label, None, None)
        for key, row, col, label, _ in rows
    ]
    again = read(coralnet, coralnet.write(Answers(rows=chips)))
    assert again == (rows, [])


MERMAID = {
    "id": ["u1", "u2", "u3"],
    "image_id": ["0a", "0a", "0b"],
    "point_id": ["p1", "p2", "p3"],
    "row": pa.array([12, 34, 56], pa.int64()),
    "col": pa.array([5, 6, 7], pa.int64()),
    "benthic_attribute_id": ["b1", "b2", "b1"],
    "benthic_attribute_name": ["Acropora", "Sand", "Acropora"],
    "growth_form_id": ["g", None, None],
    "growth_form_name": ["Branching", None, None],
    "updated_on": ["2025-01-01"] * 3,
    "region_name": ["Central Indo-Pacific"] * 3,
}


def test_mermaids_points_have_attribute_and_growth_form():
    rows, rejects = read(mermaid, parquet(**MERMAID), prefix="mermaid/", group="region_name")
    assert rejects == []
    assert rows[0] == ("mermaid/0a.png", 12, 5, "Acropora::Branching", "Central Indo-Pacific")
    assert [row[3] for row in rows] == ["Acropora::Branching", "Sand::", "Acropora::"]
    plain = read(mermaid, parquet(**MERMAID), growth_form=False)[0]
    assert [row[3] for row in plain] == ["Acropora", "Sand", "Acropora"]
    one = "id,image_id,point_id,row,col,benthic_attribute_name\nu,0a,p,1,x,Sand\nu,0a,p,1,2,Sand\n"
    assert read(mermaid, one) == (
        [("0a.png", 1, 2, "Sand::", None)],
        [("not_a_pixel", "said:2: column 'x' is not a whole number")],
    )


ECOTAXA = "\n".join(
    "\t".join(cells)
    for cells in [
        [
            "object_id",
            "object_lat",
            "object_annotation_status",
            "object_annotation_category",
            "img_file_name",
            "img_rank",
            "sample_id",
        ],
        ["[t]", "[f]", "[t]", "[t]", "[t]", "[f]", "[t]"],
        ["m106_1", "18.0", "validated", "small<egg", "m106_1.jpg", "0", "m106"],
        ["m106_1", "18.0", "validated", "small<egg", "m106_1b.jpg", "1", "m106"],
        ["m106_2", "18.0", "predicted", "Oncaeidae", "m106_2.jpg", "0", "m106"],
        ["m106_3", "18.0", "dubious", "Oncaeidae", "m106_3.jpg", "0", "m106"],
        ["m106_4", "18.0", "", "", "m106_4.jpg", "0", "m106"],
    ]
)


@pytest.mark.parametrize("types", [True, False], ids=["imported", "exported"])
def test_of_ecotaxas_objects_the_validated_have_a_label(types):
    lines = ECOTAXA.splitlines()
    text = ECOTAXA if types else "\n".join([lines[0], *lines[2:]])
    rows, rejects = read(ecotaxa, text)
    assert rows == [
        ("m106_1.jpg", None, None, "small<egg", "m106_1"),
        ("m106_1b.jpg", None, None, "small<egg", "m106_1"),
        ("m106_4.jpg", None, None, None, "m106_4"),
    ]
    first = 5 if types else 4
    assert rejects == [
        ("unconfirmed", f"said:{first}: the label is predicted"),
        ("unconfirmed", f"said:{first + 1}: the label is dubious"),
    ]
    kept = read(ecotaxa, text, keep_unconfirmed=True, group="sample_id", prefix="p/")[0]
    assert [row[3] for row in kept] == ["small<egg", "small<egg", "Oncaeidae", "Oncaeidae", None]
    assert {row[4] for row in kept} == {"m106"}
    assert kept[0][0] == "p/m106_1.jpg"
