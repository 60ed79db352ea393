"""PySpacer's feature files in every form → one table; and features read from such a table."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, environment
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyspacer_files import packed

from pipeline.chip import methods
from pipeline.commands import pyspacer_features
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.extract.extractors.precomputed import PrecomputedFeatures
from pipeline.images.windows import around
from pipeline.storage import open_storage

FORMS = ("archive", "json", "legacy json", "legacy archive")
EXTRACT = ExtractParams(extractor="precomputed", weights="features.parquet")

points_of_an_image = st.lists(
    st.tuples(st.integers(0, 65535), st.integers(0, 65535)), min_size=1, max_size=6, unique=True
)


@given(
    st.sampled_from(FORMS),
    points_of_an_image,
    st.integers(1, 9).flatmap(
        lambda dim: arrays.arrays(
            np.float32, (6, dim), elements=st.floats(-(2.0**99), 2.0**99, width=32)
        )
    ),
)
def test_every_form_is_read_as_it_was_written(form, points, features):
    points = points[:1] if "legacy" in form else points
    features = features[: len(points)]
    found = pyspacer_features.parse(packed(form, points, features))
    np.testing.assert_array_equal(found.features, features)
    if "legacy" in form:
        assert found.points is None
    else:
        np.testing.assert_array_equal(found.points, points)


GOOD = packed("archive", [(1, 2)], [[1.0, 2.0]])


def an_archive(**parts):
    sink = io.BytesIO()
    whole = {"meta": [1, 1, 2], "rows": [1], "cols": [2], "feat": [[1.0, 2.0]]}
    np.savez_compressed(sink, **{name: np.array(part) for name, part in (whole | parts).items()})
    return sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        GOOD[: len(GOOD) // 2],
        GOOD[:60] + b"\0" * 20 + GOOD[80:],
        b"[]",
        b"[[]]",
        b"[[1.0], [1.0, 2.0]]",
        b'["a"]',
        b"7",
        b'{"point_features": []}',
        b"[[1e39]]",
        b"[[NaN]]",
        b"\xff\xd8\xff\xe0 a photograph",
        an_archive(rows=[-1]),
        an_archive(rows=[1, 2], cols=[1, 2]),
        an_archive(rows=[1.5]),
        an_archive(feat=np.array([[{"an": "object"}, None]], object)),
        an_archive(feat=[1.0, 2.0]),
        an_archive(meta=[]),
    ],
)
def test_a_file_that_is_not_a_feature_file_is_an_error(data):
    with pytest.raises(InputError):
        pyspacer_features.parse(data)


@pytest.mark.parametrize("form", ["legacy json", "legacy archive"])
def test_several_features_without_points_are_refused(form):
    with pytest.raises(InputError) as stop:
        pyspacer_features.parse(packed(form, [(1, 2), (3, 4)], [[1.0], [2.0]]))
    assert str(stop.value) == (
        "has 2 features without their points, as PySpacer's first files do; extract them again "
        "with rows and columns, or here with extract.extractor: coralnet"
    )


@pytest.fixture
def bucket(tmp_path):
    """Feature files of every form beside images, and what is in them by point; one without."""
    rng = np.random.default_rng(0)
    folder, wanted = tmp_path / "bucket", {}
    for number, form in enumerate(FORMS * 5):
        image = f"reef {number % 3}/{number:02d}.jpg"
        points = [(int(row), int(col)) for row, col in rng.integers(0, 4000, (7, 2))]
        points = [(None, None)] if "legacy" in form else points
        features = rng.normal(size=(len(points), 12)).astype(np.float32)
        path = folder / f"{image}.featurevector"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed(form, points, features))
        path.with_suffix("").write_bytes(b"an image")
        wanted |= {
            (image, *point): feature for point, feature in zip(points, features, strict=True)
        }
    return folder, wanted


def command(folder, *options):
    return subprocess.run(
        (sys.executable, "-m", "stages.pyspacer_features", *map(str, options)),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_command_makes_one_table_of_a_folder(bucket, tmp_path):
    folder, wanted = bucket
    (folder / "broken.jpg.featurevector").write_bytes(GOOD[:100])
    (folder / "short.jpg.featurevector").write_bytes(GOOD)
    done = command(tmp_path, folder, "features.parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "features.parquet: 80 points of 20 images, 12 values each; 2 files left out\n"
    )
    assert "broken.jpg.featurevector: is not a feature file" in done.stderr
    assert "short.jpg.featurevector: has 2 values a point, and the first file 12" in done.stderr
    table = pq.read_table(tmp_path / "features.parquet")
    assert table.schema.equals(schemas.vectors(12))
    assert table["key"].to_pylist() == sorted(table["key"].to_pylist())
    found = {(row["key"], row["row"], row["col"]): row["feature"] for row in table.to_pylist()}
    assert found.keys() == wanted.keys()
    assert all(found[point] == feature.tolist() for point, feature in wanted.items())
    assert table["row"].null_count == 10
    assert [path.name for path in tmp_path.iterdir()] == ["bucket", "features.parquet"]


def test_suffix_and_image_give_the_keys_of_the_images(tmp_path):
    path = tmp_path / "bucket/mermaid/1234_featurevector"
    path.parent.mkdir(parents=True)
    path.write_bytes(GOOD)
    done = command(tmp_path, "bucket", "f.parquet", "--suffix", "_featurevector", "--image", ".png")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "f.parquet")["key"].to_pylist() == ["mermaid/1234.png"]


def test_a_folder_without_feature_files_is_an_error_and_nothing_is_written(tmp_path):
    (tmp_path / "bucket").mkdir()
    done = command(tmp_path, "bucket", "f.parquet")
    assert done.returncode == 3
    assert "has no object whose key ends in '.featurevector'" in done.stderr
    (tmp_path / "bucket/a.featurevector").write_bytes(b"7")
    done = command(tmp_path, "bucket", "f.parquet")
    assert done.returncode == 3
    assert "no file can be read; first: a.featurevector" in done.stderr
    (tmp_path / "bucket/a.featurevector").write_bytes(GOOD)
    done = command(tmp_path, "bucket", "nowhere/f.parquet")
    assert done.returncode == 4
    assert "nowhere/f.parquet: cannot be written (" in done.stderr
    assert "No such file or directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bucket"]


def chips_at(points):
    rows = []
    for key, row, col in points:
        window = around(row, col, 64)
        rows.append((methods.chip_id(key, "v", window), key, "v", row, col, *window))
    columns = zip(schemas.CHIPS, zip(*rows, strict=True), strict=True)
    table = pa.table({field.name: pa.array(column, field.type) for field, column in columns})
    return schemas.conform(table, schemas.CHIPS)


def test_chips_find_their_own_features_in_any_order_and_tables(bucket, tmp_path, monkeypatch):
    folder, wanted = bucket
    monkeypatch.setattr(pyspacer_features, "GROUP_BYTES", 500)

    pyspacer_features.convert(
        open_storage(str(folder)), tmp_path / "f.parquet", ".featurevector", ""
    )
    assert pq.ParquetFile(tmp_path / "f.parquet").num_row_groups > 5
    points = sorted(point for point in wanted if point[1] is not None)
    there, absent = [*points[::2], *points[1::2]], ("reef 0/00.jpg", 5000, 5000)
    tables = [("a", chips_at(there[:40])), ("b", chips_at([*there[40:], absent]))]
    done = list(PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT).run(tables))
    assert [table.name for table in done] == ["a", "b"]
    rows = [row for table in done for row in table.features.to_pylist()]
    assert len(rows) == len(points)
    for row in rows:
        assert row["feature"] == wanted[row["key"], row["row"], row["col"]].tolist()
    assert [(r.reason, r.key, r.row, r.col) for r in done[1].rejects] == [("no_feature", *absent)]


def test_a_feature_without_a_point_is_that_of_its_images_only_chip(tmp_path):
    features = {"a": [1.0], "b": [2.0], "c": [3.0]}
    for image, feature in features.items():
        (tmp_path / f"{image}.featurevector").write_bytes(
            packed("legacy json", [(0, 0)], [feature])
        )
    target = tmp_path / "f.parquet"
    pyspacer_features.convert(open_storage(str(tmp_path)), target, ".featurevector", "")
    table = chips_at([("a", 5, 6), ("b", 1, 1), ("b", 2, 2), ("d", 1, 1)])
    (done,) = PrecomputedFeatures(target, EXTRACT).run([("a", table)])
    rows = done.features.select(["key", "row", "col", "feature"]).to_pylist()
    assert rows == [{"key": "a", "row": 5, "col": 6, "feature": [1.0]}]
    rejects = [(reject.reason, reject.key) for reject in done.rejects]
    assert rejects == [("no_feature", "b"), ("no_feature", "b"), ("no_feature", "d")]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2)])
def test_tables_of_other_programs_are_read(tmp_path, kind):
    rows = [{"key": "a", "row": 1, "col": 2, "feature": [1.0, 2.0]}]
    rows.append({"key": "a", "row": 1, "col": 3, "feature": [1.0, float("nan")]})
    schema = pa.schema(
        [("row", pa.int64()), ("col", pa.int64()), ("key", pa.string()), ("feature", kind)]
    )
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema), tmp_path / "f.parquet", write_statistics=False
    )
    table = chips_at([("a", 1, 2), ("a", 1, 3)])
    (done,) = PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT).run([("a", table)])
    assert done.features["feature"].to_pylist() == [[1.0, 2.0]]
    assert [reject.col for reject in done.rejects] == [3]
    twice = pa.concat_tables([table.slice(0, 1)] * 2)  # two boxes around one centre
    (done,) = PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT).run([("a", twice)])
    assert done.features["feature"].to_pylist() == [[1.0, 2.0]] * 2


def test_a_file_that_is_not_a_table_of_features_is_an_error(tmp_path):
    path = tmp_path / "f.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not a Parquet file"):
        PrecomputedFeatures(path, EXTRACT)
    pq.write_table(pa.table({"key": ["a"], "row": [1], "vector": [[1.0]]}), path)
    with pytest.raises(InputError, match="no column col, feature"):
        PrecomputedFeatures(path, EXTRACT)
    for bad in ([1.0], ["a"], [None], [[]], pa.array([[]], pa.list_(pa.float32(), 0))):
        pq.write_table(pa.table({"key": ["a"], "row": [1], "col": [1], "feature": bad}), path)
        with pytest.raises(InputError, match="no list of numbers"):
            PrecomputedFeatures(path, EXTRACT)
    for ragged in ([[1.0], [1.0, 2.0]], [["a"], ["b"]], [[1.0], None]):
        columns = {"key": ["a", "a"], "row": [1, 1], "col": [1, 2], "feature": ragged}
        pq.write_table(pa.table(columns), path)
        with pytest.raises(InputError, match="not all of 1 numbers"):
            list(PrecomputedFeatures(path, EXTRACT).run([("a", chips_at([("a", 1, 1)]))]))


def test_keys_of_other_text_types_are_read(tmp_path):
    path, texts = tmp_path / "f.parquet", pa.array(["a", "b"])
    columns = {"row": [1, 1], "col": [2, 2], "feature": [[1.0], [2.0]]}
    for kind in (pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())):
        pq.write_table(pa.table({"key": texts.cast(kind)} | columns), path)
        (done,) = PrecomputedFeatures(path, EXTRACT).run([("a", chips_at([("b", 1, 2)]))])
        assert done.features["feature"].to_pylist() == [[2.0]]


def test_columns_that_cannot_be_those_of_points_are_an_error(tmp_path):
    path = tmp_path / "f.parquet"
    point = {"key": ["a"], "row": [1], "col": [1], "feature": [[1.0]]}
    twice = pa.table(point).append_column("feature", pa.array([[1.0]]))
    nested = pa.table(point | {"key": [{"a": "a"}]})
    latin = pa.table(point | {"key": [b"\xe9"]})
    for table, message in (
        (twice, "has more than one column feature; a table of features has key, row, col, feat"),
        (nested, "its column key holds lists or structures"),
        (latin, "its rows cannot be read: Invalid UTF8"),
    ):
        pq.write_table(table, path)
        with pytest.raises(InputError, match=f"f.parquet: {message}"):
            list(PrecomputedFeatures(path, EXTRACT).run([("a", chips_at([("a", 1, 1)]))]))
    pq.write_table(pa.table(point | {"key": pa.nulls(1)}), path)
    (done,) = PrecomputedFeatures(path, EXTRACT).run([("a", chips_at([("a", 1, 1)]))])
    assert [reject.reason for reject in done.rejects] == ["no_feature"]


def test_a_column_whose_name_is_not_text_is_an_error(tmp_path):
    path = tmp_path / "f.parquet"
    point = {"key": ["a"], "row": [1], "col": [1], "feature": [[1.0]], "abcd": [1]}
    pq.write_table(pa.table(point), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"abcd", b"abc\xff"))
    with pytest.raises(InputError, match="f.parquet: not a Parquet file: 'utf-8' codec can't dec"):
        PrecomputedFeatures(path, EXTRACT)


def test_a_table_whose_pages_are_damaged_is_an_error(tmp_path):
    path = tmp_path / "f.parquet"
    point = {"key": ["a"], "row": [1], "col": [1], "feature": [[1.0]]}
    pq.write_table(pa.table(point), path, compression="zstd")
    data = path.read_bytes()
    place = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    path.write_bytes(data[:place] + bytes(40) + data[place + 40 :])
    with pytest.raises(InputError, match="f.parquet: its rows cannot be read: "):
        list(PrecomputedFeatures(path, EXTRACT).run([("a", chips_at([("a", 1, 1)]))]))


def test_a_table_that_changes_while_it_is_read_is_an_error(bucket, tmp_path):
    folder, wanted = bucket
    assert command(tmp_path, folder, "f.parquet").returncode == 0
    found = PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT)
    (tmp_path / "f.parquet").write_bytes((tmp_path / "f.parquet").read_bytes())
    with pytest.raises(InputError, match="changed while it was read"):
        list(found.run([("a", chips_at([point for point in wanted if point[1] is not None]))]))


def test_the_command_shows_its_usage():
    assert "usage: python -m stages.pyspacer_features" in command(ROOT, "--help").stdout


@pytest.mark.parametrize("rows_a_group", [1, 100])
def test_two_features_of_one_point_are_told_apart_only_where_they_differ(tmp_path, rows_a_group):
    points = [("a", 1, 2, [1.0, 2.0]), ("a", 1, 3, [1.0, 2.0]), ("b", 0, 0, [5.0, 5.0])]
    points += [("a", 1, 2, [1.0, 2.5]), ("a", 1, 3, [1.0, 2.0])]
    rows = [dict(zip(("key", "row", "col", "feature"), point, strict=True)) for point in points]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet", row_group_size=rows_a_group)
    table = chips_at([("a", 1, 2), ("a", 1, 3), ("b", 0, 0)])
    (done,) = PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT).run([("a", table)])
    assert done.features["feature"].to_pylist() == [[1.0, 2.0], [5.0, 5.0]]
    (reject,) = done.rejects
    assert (reject.reason, reject.key, reject.row, reject.col) == ("feature_conflict", "a", 1, 2)
    assert reject.detail == "a: f.parquet has two different features of the point at 1, 2"


def test_a_table_that_claims_endless_features_takes_no_memory(tmp_path):
    kind = pa.list_(pa.float32(), 2**31 - 1)
    fields = [("key", pa.string()), ("row", pa.int64()), ("col", pa.int64()), ("feature", kind)]
    pq.write_table(pa.schema(fields).empty_table(), tmp_path / "f.parquet")
    with pytest.raises(InputError, match="have 2,147,483,647 values each, and 100,000 at most"):
        PrecomputedFeatures(tmp_path / "f.parquet", EXTRACT)
