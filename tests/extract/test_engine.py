"""The engine: whatever the order, the batches and the shards, a chip's feature is the same bits."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import RGB, jpeg_with_a_warning
from PIL import Image

from pipeline.chip import methods
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.core.errors import InputError, StorageError
from pipeline.extract.engine import Engine
from pipeline.extract.extractors import filters
from pipeline.extract.runtimes.torch import Eager
from pipeline.images import sandbox
from pipeline.images.decode import decode_image
from pipeline.images.windows import crop
from pipeline.storage import open_storage

KEYS = ("a.png", "b.jpg", "c.png")
SIZE = filters.SIZE


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    for number, key in enumerate(KEYS):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (70 + 20 * number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / key)
    return open_storage(str(folder))


def table(bucket, places, size=SIZE):
    """Chips around (image, row, col) of *places*."""
    rows = []
    for number, row, col in places:
        key = KEYS[number]
        version = bucket.head(key).version
        window = (row - size // 2, col - size // 2, size, size)
        rows.append((methods.chip_id(key, version, window), key, version, row, col, *window))
    columns = list(zip(*rows, strict=True)) or [[]] * len(schemas.CHIPS)
    named = {
        field.name: pa.array(list(column), field.type)
        for field, column in zip(schemas.CHIPS, columns, strict=True)
    }
    return schemas.conform(pa.table(named), schemas.CHIPS)


def features(bucket, tables, **extract):
    wanted = ExtractParams(extractor="filters", **extract)
    network = Eager(filters.build(wanted, None), wanted.batch or 16, "fp32", "cpu")
    engine = Engine(bucket, network, wanted)
    return list(engine.run([(str(number), part) for number, part in enumerate(tables)]))


def by_id(done):
    return {
        row["chip_id"]: np.array(row["feature"], np.float32).tobytes()
        for part in done
        for row in part.features.to_pylist()
    }


PLACES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 69), st.integers(0, 89)),
    min_size=1,
    max_size=40,
    unique=True,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    places=PLACES,
    cuts=st.lists(st.integers(0, 40), max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_features_are_the_same_bits_in_any_shards_and_any_order(bucket, places, cuts, order):
    whole = by_id(features(bucket, [table(bucket, places)]))
    shuffled = list(places)
    order.shuffle(shuffled)
    edges = [0, *sorted(min(cut, len(places)) for cut in cuts), len(places)]
    parts = [shuffled[start:stop] for start, stop in zip(edges, edges[1:], strict=False)]
    done = features(bucket, [table(bucket, part) for part in parts])
    assert [part.name for part in done] == [str(number) for number in range(len(parts))]
    assert by_id(done) == whole
    assert len(whole) == len(places)


def test_a_feature_is_what_the_extractor_returns_for_the_cut_pixels(bucket):
    """Decoded, cut and embedded here, one chip at a time."""
    import torch

    extract = ExtractParams(extractor="filters")
    places = [(0, 3, 80), (1, 50, 50), (2, 100, 0)]
    done = features(bucket, [table(bucket, places)])[0].features.to_pylist()
    network = filters.build(extract, None)
    for row in done:
        pixels = decode_image(bucket.read(row["key"]), extract)
        window = (row["row"] - SIZE // 2, row["col"] - SIZE // 2, SIZE, SIZE)
        batch = np.zeros((16, SIZE, SIZE, 3), np.uint8)
        batch[0] = crop(pixels, window)
        expected = network(torch.from_numpy(batch))[0].numpy()
        assert np.array_equal(np.array(row["feature"], np.float32), expected)


def test_a_chip_of_another_size_is_resized_to_the_extractors(bucket):
    small = features(bucket, [table(bucket, [(1, 40, 40)], size=16)])
    large = features(bucket, [table(bucket, [(1, 40, 40)], size=64)])
    assert small[0].features.num_rows == large[0].features.num_rows == 1
    assert small[0].features["feature"] != large[0].features["feature"]


def test_features_can_be_stored_at_half_the_size(bucket):
    whole = features(bucket, [table(bucket, [(0, 9, 9)])])[0].features
    half = features(bucket, [table(bucket, [(0, 9, 9)])], dtype="float16")[0].features
    assert half.schema.equals(schemas.features(filters.Filters.dim, "float16"))
    expected = np.array(whole["feature"][0].as_py(), np.float32).astype(np.float16)
    assert np.array_equal(np.array(half["feature"][0].as_py(), np.float16), expected)


def test_an_empty_table_and_no_table_are_done(bucket):
    assert features(bucket, []) == []
    done = features(bucket, [table(bucket, []), table(bucket, [(0, 1, 1)])])
    assert [part.features.num_rows for part in done] == [0, 1]


def test_a_damaged_image_rejects_its_chips_and_no_others(tmp_path):
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(
        sink, "PNG"
    )
    for key in KEYS:
        (tmp_path / key).write_bytes(sink.getvalue())
    (tmp_path / "b.jpg").write_bytes(sink.getvalue()[:3000])
    bucket = open_storage(str(tmp_path))
    done = features(bucket, [table(bucket, [(0, 1, 1), (1, 2, 2), (1, 3, 3), (2, 4, 4)])])[0]
    assert done.features["key"].to_pylist() == ["a.png", "c.png"]
    assert [(reject.key, reject.row, reject.reason) for reject in done.rejects] == [
        ("b.jpg", 2, "truncated"),
        ("b.jpg", 3, "truncated"),
    ]


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_an_image_that_changed_since_it_was_indexed_is_neither_used_nor_stored(tmp_path, what):
    for number, key in enumerate(KEYS):
        Image.new("RGB", (90, 90), (number, 0, 0)).save(tmp_path / key)
    bucket = open_storage(str(tmp_path))
    wanted = table(bucket, [(0, 1, 1), (1, 2, 2)])
    if what == "gone":
        (tmp_path / "b.jpg").unlink()
    else:
        Image.new("RGB", (90, 90), (9, 9, 9)).save(tmp_path / "b.jpg")
    done = features(bucket, [wanted, table(bucket, [(2, 5, 5)])])
    assert [len(part.changed) for part in done] == [1, 0]
    assert "b.jpg" in done[0].changed[0]
    assert done[0].features["key"].to_pylist() == ["a.png"]


def test_an_extractor_that_states_a_wrong_dim_is_an_error(bucket):
    extract = ExtractParams(extractor="filters")
    liar = filters.build(extract, None)
    liar.dim = 7
    engine = Engine(bucket, Eager(liar, 16, "fp32", "cpu"), extract)
    with pytest.raises(ValueError, match="filters: gave .* values a chip, but dim is 7"):
        list(engine.run([("0", table(bucket, [(0, 1, 1)]))]))


def test_a_machine_short_of_memory_stops_the_run_and_rejects_nothing(bucket, monkeypatch):
    def no_room(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(sandbox, "decode_with_warning", no_room)
    with pytest.raises(InputError, match="^a.png: there is not enough memory to decode it; free"):
        features(bucket, [table(bucket, [(0, 1, 1)])])


def test_features_are_the_same_bits_when_images_are_decoded_in_separate_processes(bucket):
    places = [(0, 3, 80), (1, 50, 50), (2, 100, 0)]
    extract = ExtractParams(extractor="filters")
    network = Eager(filters.build(extract, None), 16, "fp32", "cpu")
    engine = Engine(bucket, network, extract, 2, isolate=True)
    done = list(engine.run([("0", table(bucket, places))]))
    assert by_id(done) == by_id(features(bucket, [table(bucket, places)]))


@pytest.mark.parametrize("isolate", [False, True])
def test_what_the_decoder_warned_of_is_kept_with_the_features(tmp_path, isolate):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(jpeg_with_a_warning())
    storage = open_storage(str(tmp_path))
    extract = ExtractParams(extractor="filters")
    network = Eager(filters.build(extract, None), 16, "fp32", "cpu")
    chips = table(storage, [(0, 3, 8), (1, 5, 5), (1, 9, 9)])
    (done,) = Engine(storage, network, extract, isolate=isolate).run([("0", chips)])
    rows = done.features.select(["key", "decoder_warning"]).to_pylist()
    warning = "Corrupt JPEG data: bad Huffman code"
    assert [(row["key"], row["decoder_warning"]) for row in rows] == [
        ("a.png", None),
        ("b.jpg", warning),
        ("b.jpg", warning),
    ]


def test_a_bucket_that_cannot_be_read_stops_the_run(bucket, monkeypatch):
    def refuse(*args, **kwargs):
        raise StorageError("s3://x/a.png: access refused")

    wanted = table(bucket, [(0, 1, 1)])
    monkeypatch.setattr(bucket, "read", refuse)
    with pytest.raises(StorageError, match="access refused"):
        features(bucket, [wanted])
