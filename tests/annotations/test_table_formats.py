"""Tables of other tools: Parquet, CoralNet, MERMAID, EcoTaxa."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED

from pipeline.annotations import AnnotationSource, coralnet, ecotaxa, images, mermaid, points
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.core.errors import InputError


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def read(part, data, **settings):
    name = part.__name__.rpartition(".")[2]
    params = part.Settings(format=name, path=f"x/{name}", **settings)
    raw = data if isinstance(data, bytes) else data.encode()
    table, rejects = part.read(AnnotationSource("table", raw, []), params)
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
            ("not_a_pixel", "table:2: column '3.5' is not a whole number"),
            ("not_a_pixel", "table:3: row '' is not a whole number"),
            ("unreadable_row", "table:4: the line names no image"),
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
            "table:1: a.jpg is 'fish' here and 'crab' in line 1; both rejected as label_conflict",
        )
    ]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "image",
            pa.array([["a.jpg", "b.jpg"]]),
            "has the type list<element: string>; a cell must",
        ),
        ("row", pa.array([[1, 2]]), "has the type list<element: int64>; a cell must"),
        ("label", pa.array([{"is": "x"}]), "has the type struct<is: string>; a cell must"),
        ("label", pa.array([b"\xe9"]), "of row 1 is not text ('utf-8' codec can't decode"),
        ("label", pa.array([b"\xe9"]).view(pa.string()), "of row 1 is not text ('utf-8' codec"),
        ("label", pa.array([2**62], pa.timestamp("us")), "of row 1 is not text (date value out of"),
        (
            "group",
            pa.array([2**62], pa.duration("s")),
            "of row 1 is not text (Python int too large",
        ),
    ],
    ids=["images", "rows", "struct", "bytes", "not utf-8", "far day", "long time"],
)
def test_the_error_for_a_column_that_is_not_text_names_it(column, values, message):
    columns = {"image": ["a.jpg"], "row": [1], "column": [2], column: values}
    with pytest.raises(InputError) as stop:
        read(points, parquet(**columns))
    assert str(stop.value).startswith(f"table: the column {column!r} {message}")


def test_the_error_for_a_cell_that_is_not_text_gives_its_row():
    labels = pa.array([b"x"] * 25_000 + [b"\xe9"] + [b"x"] * 10)
    with pytest.raises(InputError, match="the column 'label' of row 25,001 is not text"):
        read(images, parquet(image=["a.jpg"] * len(labels), label=labels))


def test_a_column_name_that_is_not_text_is_an_error():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": ["a"], "abcd": ["x"]}), sink, store_schema=False)
    with pytest.raises(InputError, match="^table: is not a readable Parquet file: 'utf-8' cod"):
        read(images, sink.getvalue().to_pybytes().replace(b"abcd", b"abc\xff"))


def test_a_damaged_parquet_file_is_an_error():
    whole = parquet(image=["a.jpg"], label=["x"])
    with pytest.raises(InputError, match="^table: is not a readable Parquet file: "):
        read(images, whole[:-20])
    with pytest.raises(
        InputError, match="^table:1: no column for label among image, kind; it is called label code"
    ):
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
    assert rejects == [("unconfirmed", "table:3: the label is a machine's and not confirmed")]


def test_a_coralnet_source_may_have_columns_with_any_name():
    """Auxiliary fields have names of the source's choice, and stand before the points' columns."""
    text = "Name,Date,Image,Key,Group,Row,Column,Label\n1.jpg,,7,k,North,10,20,Porit\n"
    assert read(coralnet, text) == ([("1.jpg", 10, 20, "Porit", "North")], [])
    named = points.PointColumns(image="Key", group="Image")
    assert read(coralnet, text, columns=named) == ([("k", 10, 20, "Porit", "7")], [])


def test_labels_that_are_not_verified_in_coralnet_toolbox_are_rejects():
    """CoralNet-Toolbox writes CoralNet's columns and its own, and its models' labels with them."""
    text = (
        "Name,Path,Row,Column,Patch Size,Annotation Type,Label,Long Label,Verified,"
        "Machine confidence 1,Machine suggestion 1\n"
        "1.jpg,C:/reef/1.jpg,10,20,112,Patch,Porit,Porites,True,,\n"
        "1.jpg,C:/reef/1.jpg,30,40,112,Patch,CCA,Crustose,False,0.910,CCA\n"
    )
    rows, rejects = read(coralnet, text)
    assert rows == [("1.jpg", 10, 20, "Porit", None)]
    assert rejects == [("unconfirmed", "table:3: the label is a machine's and not confirmed")]
    assert len(read(coralnet, text, keep_unconfirmed=True)[0]) == 2


def test_an_export_from_coralnet_can_be_written_for_upload_and_read_again():
    path = SHARED / "reef" / "annotations.csv"
    if not path.exists():
        pytest.skip("the reef photographs are not here")
    rows, rejects = read(coralnet, path.read_bytes())
    assert len(rows) + len(rejects) == 3000
    chips = [
        AnnotatedChip(key, row, col, (0, 0, 9, 9), 2000, 2000, label, None, None)
        for key, row, col, label, _ in rows
    ]
    again = read(coralnet, coralnet.write(WrittenAnnotations(rows=chips)))
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


def test_labels_of_mermaid_are_attribute_and_growth_form():
    rows, rejects = read(mermaid, parquet(**MERMAID), prefix="mermaid/", group="region_name")
    assert rejects == []
    assert rows[0] == ("mermaid/0a.png", 12, 5, "Acropora::Branching", "Central Indo-Pacific")
    assert [row[3] for row in rows] == ["Acropora::Branching", "Sand::", "Acropora::"]
    plain = read(mermaid, parquet(**MERMAID), growth_form=False)[0]
    assert [row[3] for row in plain] == ["Acropora", "Sand", "Acropora"]
    one = "id,image_id,point_id,row,col,benthic_attribute_name\nu,0a,p,1,x,Sand\nu,0a,p,1,2,Sand\n"
    assert read(mermaid, one) == (
        [("0a.png", 1, 2, "Sand::", None)],
        [("not_a_pixel", "table:2: column 'x' is not a whole number")],
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


@pytest.mark.parametrize("quoted", [True, False], ids=["as EcoTaxa writes it", "by hand"])
@pytest.mark.parametrize("types", [True, False], ids=["a backup", "an export"])
def test_only_validated_objects_of_ecotaxa_have_a_label(types, quoted):
    lines = ECOTAXA.splitlines()
    if quoted:  # every cell but numbers
        lines = ["\t".join(f'"{cell}"' for cell in line.split("\t")) for line in lines]
    text = "\n".join(lines if types else [lines[0], *lines[2:]])
    rows, rejects = read(ecotaxa, text)
    assert rows == [
        ("m106_1.jpg", None, None, "small<egg", "m106_1"),
        ("m106_1b.jpg", None, None, "small<egg", "m106_1"),
        ("m106_4.jpg", None, None, None, "m106_4"),
    ]
    first = 5 if types else 4
    assert rejects == [
        ("unconfirmed", f"table:{first}: the label is predicted"),
        ("unconfirmed", f"table:{first + 1}: the label is dubious"),
    ]
    kept = read(ecotaxa, text, keep_unconfirmed=True, group="sample_id", prefix="p/")[0]
    assert [row[3] for row in kept] == ["small<egg", "small<egg", "Oncaeidae", "Oncaeidae", None]
    assert {row[4] for row in kept} == {"m106"}
    assert kept[0][0] == "p/m106_1.jpg"


@pytest.mark.parametrize(
    ("part", "header", "message"),
    [
        (ecotaxa, "object_id\tobject_annotation_category", "image among"),
        (mermaid, "id,image_id,row,col", "label among"),
    ],
)
def test_the_error_for_a_missing_column_of_a_tool_gives_its_name(part, header, message):
    """These formats have no `columns` to set."""
    name = {ecotaxa: "img_file_name", mermaid: "benthic_attribute_name"}[part]
    with pytest.raises(InputError, match=f"{message} .*; it is called {name} in this format$"):
        read(part, header + "\n")
