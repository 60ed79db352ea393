"""Annotation files as people have them: encodings, separators, names of columns, doubled rows."""

import pytest
from conftest import SHARED

from pipeline.annotations import AnnotationSource, folders, images, points
from pipeline.core.errors import InputError, SettingError


def read(text, keys=(), **settings):
    data = text if isinstance(text, bytes) else text.encode()
    params = points.Settings(format="points", path="p.csv", **settings)
    table, rejects = points.read(AnnotationSource("p.csv", data, list(keys)), params)
    rows = [tuple(row.values()) for row in table.drop_columns(["line"]).to_pylist()]
    return rows, [(reject.reason, reject.detail) for reject in rejects]


PLAIN = "image,row,column,label\na.jpg,1,2,Coral\n"
ROW = [("a.jpg", 1, 2, "Coral", None)]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-32"),
        b"\xef\xbb\xbf" + PLAIN.encode("utf-8-sig"),
        b"\n  \n" + PLAIN.encode(),
        b'image;row;column;label;"a,b,c,d,e"\na.jpg;1;2;Coral;\n',
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        b"IMAGE, Row ,COLUMN,Label code\na.jpg,1.0, 2 , Coral \n",
        b"label,col,row,name\nCoral,2,1,a.jpg\n",
        b'image,row,column,label\n"a.jpg",1,2,"Coral"\n\n',
    ],
    ids=[
        "utf8",
        "bom",
        "utf16",
        "utf32",
        "boms",
        "blank",
        "commas",
        "semicolon",
        "tab",
        "crlf",
        "cr",
        "names",
        "order",
        "quotes",
    ],
)
def test_every_encoding_and_separator_gives_the_same_row(data):
    assert read(data) == (ROW, [])


def test_an_export_from_coralnet_is_read_unchanged():
    path = SHARED / "reef" / "annotations.csv"
    if not path.exists():
        pytest.skip("the reef photographs are not here")
    rows, rejects = read(path.read_bytes())
    labels = [row[3] for row in rows]
    assert len(rows) + len(rejects) == 3000
    assert {reason for reason, _ in rejects} <= {"label_conflict"}
    assert labels.count("Porit") > 1300


def test_labels_that_look_like_missing_values_are_labels():
    text = "image,row,column,label\n" + "".join(
        f"a.jpg,{row},0,{label}\n" for row, label in enumerate(["NA", "None", "nan", "01", "null"])
    )
    assert [row[3] for row in read(text)[0]] == ["NA", "None", "nan", "01", "null"]


def test_a_blank_label_is_an_unlabelled_point():
    assert read("image,row,column,label\na.jpg,1,2,  \n")[0] == [("a.jpg", 1, 2, None, None)]


def test_labels_are_compared_in_one_unicode_form():
    text = "image,row,column,label\na.jpg,1,2,Cafe\u0301\na.jpg,1,2,Caf\u00e9\n"
    assert read(text)[0] == [("a.jpg", 1, 2, "Caf\u00e9", None)]


@pytest.mark.parametrize("cell", ["10.5", "x", "", "nan", "inf", "0x10", "1_0", '"1,000"', "١"])
def test_a_row_that_is_not_a_whole_number_is_rejected_with_its_line(cell):
    rows, rejects = read(f"image,row,column,label\na.jpg,{cell},2,c\nb.jpg,1,2,c\n")
    assert [row[0] for row in rows] == ["b.jpg"]
    shown = cell.strip('"')
    assert rejects == [("not_a_pixel", f"p.csv:2: row {shown!r} is not a whole number")]


def test_a_row_beyond_every_image_is_outside():
    assert read("image,row,column,label\na.jpg,1e12,2,c\n")[1] == [
        ("points_outside", "p.csv:2: row 1e12 is outside every image")
    ]


def test_one_of_several_equal_rows_is_kept_and_the_others_are_rejects():
    rows, rejects = read(PLAIN + "a.jpg,1,2,Coral\na.jpg,1.0,2, Coral\n")
    assert rows == ROW
    assert rejects == [
        ("said_again", f"p.csv:{line}: a.jpg (1, 2) is already annotated in line 2")
        for line in (3, 4)
    ]


def test_two_labels_for_one_pixel_are_both_rejected_and_both_lines_named():
    rows, rejects = read(PLAIN + "b.jpg,1,2,Sand\na.jpg,1,2,Sand\n")
    assert [row[0] for row in rows] == ["b.jpg"]
    assert rejects == [
        (
            "label_conflict",
            f"p.csv:{line}: a.jpg (1, 2) is {label!r} here and {other!r} in line {other_line}; "
            "both rejected as label_conflict",
        )
        for line, label, other, other_line in ((2, "Coral", "Sand", 4), (4, "Sand", "Coral", 2))
    ]


def test_each_row_of_a_pixel_with_many_labels_is_a_reject():
    rows, rejects = read(PLAIN + "".join(f"a.jpg,1,2,{label}\n" for label in ("", "b", "c", "d")))
    assert rows == []
    assert [detail.partition(": ")[0] for _, detail in rejects] == [
        f"p.csv:{n}" for n in range(2, 7)
    ]
    assert rejects[1][1] == (
        "p.csv:3: a.jpg (1, 2) is unlabelled here and 'Coral' in line 2 and 'b' in line 4 and 'c' "
        "in line 5 and 1 more; all rejected as label_conflict"
    )


def test_a_label_wins_over_a_blank_for_the_same_pixel():
    assert read("image,row,column,label\na.jpg,1,2,\na.jpg,1,2,Coral\n") == (
        ROW,
        [("said_again", "p.csv:2: a.jpg (1, 2) is already annotated in line 3, with a label")],
    )


def test_a_robots_label_is_a_reject_unless_keep_unconfirmed_is_set():
    text = "Name,Row,Column,Label,Annotator\na.jpg,1,2,Coral,robot\nb.jpg,1,2,Coral,Imported\n"
    rows, rejects = read(text)
    assert [row[0] for row in rows] == ["b.jpg"]
    assert rejects == [("unconfirmed", "p.csv:2: the label is a machine's and not confirmed")]
    assert len(read(text, keep_unconfirmed=True)[0]) == 2


def test_columns_and_prefix_can_be_named():
    text = "foto,zeile,spalte,art,station\n1.jpg,1,2,Coral,S3\n"
    columns = points.PointColumns(
        image="foto", row="zeile", column="spalte", label="art", group="station"
    )
    assert read(text, columns=columns, prefix="2024/")[0] == [("2024/1.jpg", 1, 2, "Coral", "S3")]


def test_a_missing_column_is_named_as_the_settings_name_it():
    with pytest.raises(InputError) as stop:
        read(PLAIN, columns=points.PointColumns(label="E\u0301tiquette"))
    assert str(stop.value) == (
        "p.csv:1: no column for label among image, row, column, label; it is called "
        "E\u0301tiquette; annotations.columns.label can name another"
    )
    text = PLAIN.replace("label", "\u00c9tiquette")
    assert read(text, columns=points.PointColumns(label="E\u0301tiquette")) == (ROW, [])


def test_an_incomplete_line_is_a_reject_and_the_rest_is_read():
    rows, rejects = read(PLAIN + "b.jpg,3\nc.jpg,1,2,Sand\n")
    assert [row[0] for row in rows] == ["a.jpg", "c.jpg"]
    assert rejects == [("unreadable_row", "p.csv:3: the line has fewer cells than the header")]


def test_a_line_with_an_unquoted_separator_is_a_reject():
    rows, rejects = read(PLAIN + "b.jpg,3,4,Coral, dead\nc.jpg,1,2,Sand,, \n")
    assert [row[0] for row in rows] == ["a.jpg", "c.jpg"]
    assert rejects == [("unreadable_row", "p.csv:3: the line has more cells than the header")]


def test_a_row_that_names_no_image_is_rejected():
    assert read(PLAIN + " ,1,2,Sand\n") == (
        ROW,
        [("unreadable_row", "p.csv:3: the line names no image")],
    )


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_quote_that_is_never_closed_is_an_error(end):
    with pytest.raises(InputError, match="^p.csv:3: a quote is opened here and never closed$"):
        read(PLAIN + 'b.jpg,1,2,"Coral\nc.jpg,1,2,Sand' + end)


@pytest.mark.parametrize("last", ['c.jpg,1,2,"Sand"', 'c.jpg,1,2,"Sand', '"c.jpg",1,2,Sand'])
def test_a_quote_that_is_closed_in_another_row_is_an_error(last):
    with pytest.raises(InputError) as stop:
        read(PLAIN + f'b.jpg,1,2,"Coral\nd.jpg,1,2,Sand\n{last}\ne.jpg,1,2,Sand\n')
    assert str(stop.value) == (
        "p.csv:3: a quote is opened here, and where it is closed, in line 5, text follows; fix "
        "the quotes of these lines"
    )


def test_a_quote_inside_a_cell_is_part_of_it():
    rows, rejects = read(PLAIN + 'b.jpg,1,2,5" pipe\n')
    assert (rows[1][3], rejects) == ('5" pipe', [])


def test_a_quoted_newline_does_not_shift_the_lines_of_messages():
    text = 'image,row,column,label\n"a\nb.jpg",1,2,Coral\nc.jpg,x,2,Coral\n'
    rows, rejects = read(text)
    assert rows[0][0] == "a\nb.jpg"
    assert rejects[0][1] == "p.csv:4: row 'x' is not a whole number"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "p.csv: is empty; a header line with column names is needed"),
        (
            b"\xef\xbb\xbf \n",
            "p.csv: is empty; a header line with column names is needed",
        ),
        (
            b"PK\x03\x04...",
            "p.csv: is an Excel workbook or another zip file, not text; "
            "save the table as CSV in UTF-8",
        ),
        (
            PLAIN.encode("utf-16-le"),
            "p.csv:1: contains zero bytes; if it is UTF-16, set annotations.encoding to "
            "'utf-16-le' or 'utf-16-be'",
        ),
        (
            b"BZh91AY&SY",
            "p.csv: is compressed by bzip2, not text; save the table as CSV in UTF-8",
        ),
        (
            b"[" + b",".join([b'{"image":"a.jpg"}'] * 30_000),
            "p.csv:1: no column for image, row, column among "
            + ", ".join(['[{"image":"a.jpg"}', *(['{"image":"a.jpg"}'] * 19)])
            + " and 29,980 more; it is called image or key or name or filename or file or "
            "image_name or image name or file_name or image_path; annotations.columns.image can "
            "name another",
        ),
        (
            b"image,row,column,label,Label\na.jpg,1,2,x,y\n",
            "p.csv:1: 2 columns are named 'label'; rename all but one",
        ),
        (
            b"image,row,label\na,1,x\n",
            "p.csv:1: no column for column among image, row, label; "
            "it is called column or col or x; annotations.columns.column can name another",
        ),
    ],
    ids=["empty", "blank", "zip", "utf16", "bzip2", "json", "twice", "column"],
)
def test_the_error_for_an_unusable_file_gives_the_reason(data, message):
    with pytest.raises(InputError) as stop:
        read(data)
    assert str(stop.value) == message


def test_latin_1_is_an_error_unless_encoding_names_it():
    data = "image,row,column,label\na.jpg,1,2,Äste\n".encode("latin-1")
    with pytest.raises(
        InputError, match=r"^p.csv:2: cannot be read as utf-8 .* set annotations.enc"
    ):
        read(data)
    with pytest.raises(InputError, match=r"^p.csv:2: cannot be read as utf-8"):
        read(data.replace(b"\n", b"\r"))
    for encoding in ("lettish", "", "utf\0", "rot13"):
        with pytest.raises(SettingError, match=r"^annotations.encoding: '.*' is not an encoding$"):
            read(data, encoding=encoding)
    assert read(data, encoding="latin-1")[0][0][3] == "Äste"


def test_a_header_alone_is_an_empty_table():
    assert read("image,row,column,label\n") == ([], [])


def test_image_labels():
    params = images.Settings(format="images", path="l.csv")
    source = AnnotationSource(
        "l.csv", b"image,label,group\na.jpg,cat,s1\nb.jpg,,s2\na.jpg,dog,s1\n", []
    )
    table, rejects = images.read(source, params)
    assert table.select(["key", "row", "label", "group"]).to_pylist() == [
        {"key": "b.jpg", "row": None, "label": None, "group": "s2"}
    ]
    assert [reject.detail for reject in rejects] == [
        "l.csv:2: a.jpg is 'cat' here and 'dog' in line 4; both rejected as label_conflict",
        "l.csv:4: a.jpg is 'dog' here and 'cat' in line 2; both rejected as label_conflict",
    ]


def test_a_folders_name_is_the_label():
    source = AnnotationSource("", b"", ["x/cat/1.jpg", "dog/2.jpg", "3.jpg"])
    table, _ = folders.read(source, folders.Settings(format="folders"))
    assert dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True)) == {
        "3.jpg": None,
        "dog/2.jpg": "dog",
        "x/cat/1.jpg": "cat",
    }
