"""FlowCam: what a session's table becomes, made sessions and a real one."""

import re
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import sessions
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.annotations import AnnotationSource
from pipeline.chip import particles
from pipeline.chip.methods import flowcam
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.images.decode import decode_image
from pipeline.images.windows import crop

NAME = "Lake_Tank10_54.0143_-2.7770_04052023_1"
REAL = next(iter(sorted((SHARED / "flowcam").glob("*_04052023_1"))), None)
real = pytest.mark.skipif(REAL is None, reason="needs ../shared/data/flowcam")
EXTRACT = ExtractParams(extractor="filters")


@pytest.fixture
def session(tmp_path):
    return sessions.make(tmp_path / NAME, 40)


def beside(folder, table="metadata.lst"):
    """The images in a session's folder, as the index has them."""
    found = []
    for path in sorted(folder.glob("*.tif")):
        with Image.open(path) as image:
            width, height = image.size
        facts = {"table": f"{folder.name}/{table}", "table_version": "t"}
        facts |= {"key": f"{folder.name}/{path.name}", "version": path.name}
        found.append(facts | {"image_height": height, "image_width": width})
    return pa.Table.from_pylist(found, schema=schemas.WINDOW_TABLES)


def measured(folder, table="metadata.lst"):
    data = (folder / table).read_bytes()
    return flowcam.read(f"{folder.name}/{table}", data, beside(folder))


def pixels_of(folder, chips):
    """Each chip's pixels, by the number of its particle."""
    found = {}
    for row in chips.to_pylist():
        data = (folder / row["key"].rpartition("/")[2]).read_bytes()
        window = (row["top"], row["left"], row["height"], row["width"])
        number = int(row["particle"].rpartition("/")[2])
        found[number] = crop(decode_image(data, EXTRACT), window)
    return found


def test_every_particle_is_cut_to_the_pixel_from_its_own_collage(session):
    found = measured(session.folder)
    assert found.rejects == []
    assert len(beside(session.folder)) > 1
    cut = pixels_of(session.folder, found.chips)
    assert cut.keys() == session.pixels.keys()
    assert all(np.array_equal(cut[number], session.pixels[number]) for number in cut)


def test_every_measurement_is_a_column_of_its_type_and_joins_by_chip_id(session):
    found = measured(session.folder)
    assert found.measured["chip_id"].to_pylist() == found.chips["chip_id"].to_pylist()
    assert set(sessions.FIELDS) <= set(found.measured.column_names)
    by_id = {row["id"]: row for row in found.measured.to_pylist()}
    for row in session.rows:
        got = by_id[row["id"]]
        assert {name: got[name] for name in sessions.AFTER} == {
            name: row[name] for name in sessions.AFTER
        }
        assert got["timestamp"].isoformat(timespec="milliseconds") == row["timestamp"]
        assert (got["image_id"], got["collage_file"]) == (row["image_id"], row["collage_file"])


def test_place_and_day_of_sampling_come_from_the_sessions_name_not_from_the_time_of_imaging(
    session,
):
    row = measured(session.folder).measured.to_pylist()[0]
    assert (row["latitude"], row["longitude"]) == (54.0143, -2.777)
    assert row["sampled_on"] == date(2023, 5, 4)
    assert row["timestamp"].date() == date(2023, 5, 22)
    assert row["session"] == NAME


@given(
    st.floats(-90, 90).map(lambda value: f"{value:.4f}"),
    st.floats(-180, 180).map(lambda value: f"{value:.4f}"),
    st.dates(),
    st.sampled_from(["", "_1", "_12"]),
)
def test_any_place_and_day_in_a_name_are_read_back(latitude, longitude, day, number):
    name = f"Some_Tank_{latitude}_{longitude}_{day.day:02d}{day.month:02d}{day.year:04d}{number}"
    said, fault = flowcam.parse_session(name)
    assert fault == ""
    assert (said.latitude, said.longitude) == (float(latitude), float(longitude))
    assert said.sampled_on == day


@pytest.mark.parametrize(
    ("name", "place", "day", "fault"),
    [
        ("Tank_7", (None, None), None, ""),
        (
            "T_-94.5_12.0_04052023",
            (None, None),
            date(2023, 5, 4),
            "its name has latitude -94.5, beyond 90 degrees",
        ),
        (
            "T_54.0_-180.5_04052023_2",
            (None, None),
            date(2023, 5, 4),
            "its name has longitude -180.5, beyond 180 degrees",
        ),
        (
            "T_54.0_-2.7_31042023",
            (54.0, -2.7),
            None,
            "its name has 31042023, which is no day as DDMMYYYY",
        ),
        (
            "T_91_0_20230504",
            (None, None),
            None,
            "its name has latitude 91, beyond 90 degrees and its name has 20230504, which is no "
            "day as DDMMYYYY",
        ),
    ],
)
def test_an_impossible_place_or_day_is_left_out_with_a_message(name, place, day, fault):
    said, why = flowcam.parse_session(name)
    assert ((said.latitude, said.longitude), said.sampled_on, why) == (place, day, fault)


def test_a_session_with_an_impossible_name_keeps_its_chips(tmp_path):
    session = sessions.make(tmp_path / "T_95.0_0.0_04052023", 3)
    found = measured(session.folder)
    assert found.chips.num_rows == 3
    assert found.measured["latitude"].null_count == 3
    assert [(reject.reason, reject.detail) for reject in found.rejects] == [
        (
            "session_name",
            "T_95.0_0.0_04052023/metadata.lst: its name has latitude 95.0, beyond 90 degrees; "
            "its chips are kept without",
        )
    ]


def test_carriage_returns_a_byte_order_mark_and_another_order_of_fields_change_nothing(session):
    plain = measured(session.folder)
    session.newline = "\r\n"
    session.fields = dict(sorted(session.fields.items()))
    session.table.write_bytes(b"\xef\xbb\xbf" + session.text().encode())
    other = measured(session.folder)
    assert other.rejects == []
    assert other.chips.equals(plain.chips)
    assert other.measured.select(plain.measured.column_names).equals(plain.measured)


def test_a_later_version_with_more_fields_of_other_types_is_read(session):
    session.version = "021"
    session.fields = {"biovolume": "float", "note": "blob", **session.fields}
    for row in session.rows:
        row |= {"biovolume": 2.5, "note": "é?"}
    session.write()
    found = measured(session.folder)
    assert found.rejects == []
    assert set(found.measured["biovolume"].to_pylist()) == {2.5}
    assert set(found.measured["note"].to_pylist()) == {"é?"}


@pytest.mark.parametrize("version", ["016", "17", "2.0", "id|image_x"])
def test_an_unknown_version_is_refused_by_name_and_its_particles_are_counted(session, version):
    session.version = version
    session.write()
    found = measured(session.folder)
    assert found.chips.num_rows == 0
    assert len(found.rejects) == 40
    assert {reject.reason for reject in found.rejects} == {"unreadable_table"}
    assert found.rejects[0].detail == (
        f"{NAME}/metadata.lst:56: not read: "
        f"{NAME}/metadata.lst:1: version {version!r} is not read; 017 and later are"
    )


def without(session, line):
    lines = session.text().split("\n")
    return "\n".join(lines[: line - 1] + lines[line:])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda session: session.text().replace("num-fields|53", "53"),
            "2: the number of fields, num-fields|…, is not there",
        ),
        (
            lambda session: session.text().replace("image_w|int32", "image_x|int32"),
            "6: field 'image_x' is declared twice",
        ),
        (
            lambda session: session.text().replace("image_w|int32", "wide|int32"),
            "2: no field image_w is declared",
        ),
        (
            lambda session: without(session, 3),
            " is not the name and type of one of 53 fields",
        ),
        (lambda session: "017\n", "2: the number of fields, num-fields|…, is not there"),
        (lambda session: "", "1: version '' is not read; 017 and later are"),
    ],
)
def test_a_table_with_a_broken_header_is_rejected_with_the_line(session, spoil, says):
    session.table.write_text(spoil(session), encoding="utf-8")
    found = measured(session.folder)
    assert found.chips.num_rows == 0
    assert {reject.reason for reject in found.rejects} == {"unreadable_table"}
    assert found.rejects[0].detail.endswith(says)


def test_rows_with_missing_or_unreadable_cells_are_rejects_and_the_others_are_used(session):
    lines = session.text().split("\n")
    first = 2 + len(sessions.FIELDS)
    lines[first] = lines[first][:80]
    lines[first + 1] = lines[first + 1] + "|7"
    lines[first + 2] = "x" + lines[first + 2]
    cells = lines[first + 3].split("|")
    cells[list(sessions.FIELDS).index("timestamp")] = "2023-04-31T12:00:00"
    lines[first + 3] = "|".join(cells)
    cells = lines[first + 4].split("|")
    cells[list(sessions.FIELDS).index("elongation")] = "-1.#IND"
    lines[first + 4] = "|".join(cells)
    session.table.write_text("\n".join(lines), encoding="utf-8")
    found = measured(session.folder)
    at = f"{NAME}/metadata.lst"
    torn = lines[first].count("|") + 1
    assert [(reject.reason, reject.detail) for reject in found.rejects] == [
        ("unreadable_row", f"{at}:56: {torn} cells, and 53 fields are declared"),
        ("unreadable_row", f"{at}:57: 54 cells, and 53 fields are declared"),
        ("unreadable_row", f"{at}:58: id 'x3' is no int32"),
        ("unreadable_row", f"{at}:59: timestamp '2023-04-31T12:00:00' is no timestamp"),
    ]
    assert found.chips.num_rows == 36
    by_id = {row["id"]: row for row in found.measured.to_pylist()}
    assert by_id[5]["elongation"] is None


def test_windows_outside_their_collage_and_repeated_windows_are_rejects(session):
    rows = session.rows
    rows[0]["image_x"] = 255
    rows[1]["image_y"] = -1
    rows[2]["image_h"] = 0
    rows[3]["collage_file"] = "gone.tif"
    rows[5] |= {name: rows[4][name] for name in ("image_x", "image_y", "image_w", "image_h")}
    rows[6]["collage_file"] = "..\\somewhere\\" + rows[6]["collage_file"]
    session.write()
    found = measured(session.folder)
    assert found.chips.num_rows == 35
    said = {int(re.search(r"lst:(\d+)", r.detail)[1]): (r.reason, r.detail) for r in found.rejects}
    key = f"{NAME}/{NAME}_images_000001.tif"
    top, high, wide = rows[0]["image_y"], rows[0]["image_h"], rows[0]["image_w"]
    assert said[56] == (
        "window_outside",
        f"{NAME}/metadata.lst:56: window {top}, 255, {high} × {wide} does not lie inside {key}, "
        "which is 256 × 256",
    )
    assert [said[line][0] for line in (57, 58)] == ["window_outside"] * 2
    assert said[59] == (
        "no_such_image",
        f"{NAME}/metadata.lst:59: no image '{NAME}/gone.tif' in the index",
    )
    assert said[61][0] == "doubled_window"
    assert said[61][1].endswith(f"of {key} stands in line 60 already")


def placed(session, rows, separator=None):
    found = measured(session.folder)
    said = pa.Table.from_pylist(
        [{"group": None, "line": str(line), **row} for line, row in enumerate(rows, 2)],
        schema=schemas.ANNOTATIONS,
    )
    source = AnnotationSource("said.csv", b"", beside(session.folder)["key"].to_pylist())
    table, rejects = particles.assign(found.chips, said, source, separator)
    numbers = {
        (row["key"], row["row"], row["col"]): int(row["particle"].rpartition("/")[2])
        for row in found.chips.to_pylist()
    }
    got = {numbers[row["key"], row["row"], row["col"]]: row["label"] for row in table.to_pylist()}
    return got, rejects


def test_an_annotation_finds_its_chip_by_any_pixel_of_it_or_by_the_particles_name(session):
    first, last = session.rows[0], session.rows[-1]
    corner = {"row": first["image_y"], "col": first["image_x"] + first["image_w"] - 1}
    got, rejects = placed(
        session,
        [
            {"key": f"{NAME}/{first['collage_file']}", "label": "copepod", **corner},
            {"key": f"{NAME}/{last['id']}", "label": "diatom"},
            {"key": f"{NAME}/{first['collage_file']}", "label": "gutter", "row": 0, "col": 0},
            {"key": f"{NAME}/9999", "label": "none"},
        ],
    )
    assert got == {first["id"]: "copepod", last["id"]: "diatom"}
    assert [(reject.reason, reject.detail) for reject in rejects] == [
        (
            "no_window",
            f"said.csv:4: (0, 0) of {NAME}/{first['collage_file']} lies in no window that a "
            "table lists",
        ),
        (
            "no_such_image",
            f"said.csv:5: no image, and no particle of a table, is called '{NAME}/9999'",
        ),
    ]


def test_an_annotation_of_a_collage_labels_all_its_particles(session):
    name = session.rows[0]["collage_file"]
    got, rejects = placed(session, [{"key": f"{NAME}/{name}", "label": "bubble"}])
    assert rejects == []
    assert got == {row["id"]: "bubble" for row in session.rows if row["collage_file"] == name}


def test_two_labels_of_one_particle_conflict_unless_a_chip_may_have_several(session):
    first = session.rows[0]
    pixel = {"row": first["image_y"] + 1, "col": first["image_x"] + 1}
    said = [
        {"key": f"{NAME}/{first['collage_file']}", "label": "diatom", **pixel},
        {"key": f"{NAME}/{first['id']}", "label": "chain"},
    ]
    got, rejects = placed(session, said)
    assert got == {}
    assert [reject.reason for reject in rejects] == ["label_conflict"]
    assert placed(session, said, "|") == ({first["id"]: "chain|diatom"}, [])


@real
def test_the_475_chips_of_a_real_session_are_inside_disjoint_and_cover_all_that_is_not_black():
    found = measured(REAL)
    assert found.rejects == []
    assert found.chips.num_rows == 475
    key = next(iter(set(found.chips["key"].to_pylist())))
    pixels = decode_image((REAL / key.rpartition("/")[2]).read_bytes(), EXTRACT)
    covered = np.zeros(pixels.shape[:2], int)
    for row in found.chips.to_pylist():
        top, left, height, width = (row[name] for name in ("top", "left", "height", "width"))
        assert top >= 0 <= left
        part = covered[top : top + height, left : left + width]
        assert part.shape == (height, width)
        part += 1
    assert covered.max() == 1
    assert not pixels[covered == 0].any()
    row = found.measured.to_pylist()[0]
    assert (row["latitude"], row["longitude"], row["sampled_on"]) == (
        54.0143,
        -2.777,
        date(2023, 5, 4),
    )


@real
def test_synthetic_sessions_look_like_the_real_one(session):
    lines = (REAL / "metadata.lst").read_text(encoding="ascii").split("\n")
    ours = session.text().split("\n")
    assert ours[:55] == lines[:55]
    assert (ours[-1], lines[-1]) == ("", "")
    kinds = [
        [re.sub(r"[0-9A-F]{2,}|\d", "0", re.sub(r"\d+", "0", cell)) for cell in line.split("|")]
        for line in (ours[55], lines[55])
    ]
    times = list(sessions.FIELDS).index("timestamp")
    assert kinds[0][times] == kinds[1][times]
    stated = []
    for folder in (session.folder, REAL):
        name = f"{folder.name}_images_000001.tif"
        with Image.open(folder / name) as image:
            stated.append((image.mode, image.info["compression"], image.tag_v2[262]))
        rows = sorted(measured(folder).measured.to_pylist(), key=lambda row: row["id"])
        assert {row["collage_file"] for row in rows} >= {name}
        top, left, wide = (rows[0][f"image_{side}"] for side in "yxw")
        assert (top, left, rows[1]["image_x"]) == (2, 2, 2 + wide + 2)
    assert stated[0] == stated[1]
