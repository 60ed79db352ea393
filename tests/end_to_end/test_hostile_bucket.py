"""A bucket with anything in it: the run ends well, says what it left out and loses nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil

import deadly
import pyarrow.parquet as pq
import pytest
from conftest import new_repo, textures
from PIL import Image


def add(repo, key, data, points=2):
    """Put an object into the bucket, with points on it."""
    path = repo.bucket.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for row in range(points):
        repo.bucket.points.append({"image": key, "row": row, "column": 9, "label": "noise"})
    repo.points()


def moving():
    """A PNG of two pictures."""
    sink = io.BytesIO()
    frames = [Image.new("RGB", (90, 90), colour) for colour in ("red", "blue")]
    frames[0].save(sink, "PNG", save_all=True, append_images=frames[1:])
    return sink.getvalue()


def run(repo, *stages, **env):
    return [repo.run("python", "-m", f"stages.{stage}", **env) for stage in stages]


def rejects(repo, stage):
    rows = pq.read_table(repo.path / f"data/rejects/{stage}.parquet").to_pylist()
    return [(row["key"], row["row"], row["reason"]) for row in rows]


def features(repo):
    tables = sorted((repo.path / "data/features").glob("0*.parquet"))
    return {row["key"]: row for table in tables for row in pq.read_table(table).to_pylist()}


@pytest.fixture
def armed(tmp_path):
    """A clone in which decoders die of deadly images."""
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket", each=3))
    repo.env["PYTHONPATH"] += os.pathsep + deadly.arm(tmp_path / "armed")
    return repo


@pytest.mark.slow
def test_an_image_that_kills_its_decoder_is_a_reject_and_the_run_goes_on(armed):
    armed.env["QUADRAT_WORKERS"] = "1"
    add(armed, "noise/deadly.jpg", deadly.image("deadly"))
    add(armed, "noise/moving.png", moving(), points=0)
    add(armed, "noise/named.tif", deadly.image("a JPEG"), points=0)
    add(armed, "noise/large.png", moving() + bytes(60_000), points=0)
    armed.set(bucket__max_bytes=60_000, bucket__max_rejects=0.1)
    index, chip, done = run(armed, "index", "chip", "extract")
    assert rejects(armed, "index") == [("noise/large.png", None, "too_many_bytes")]
    assert (
        "index: 1 file with several pictures, such as noise/moving.png: the first" in index.stderr
    )
    assert (
        "index: 1 file whose format is not that of their name, such as noise/named.tif (JPEG)"
        in index.stderr
    )
    assert "chip: 2 images have no annotation, such as noise/moving.png" in chip.stderr
    walk = armed.run("python", "-m", "stages.trace", "noise/moving.png").stdout
    assert "PNG  the first of several pictures" in walk
    assert "died unexpectedly with exit code -11" in done.stderr
    assert "from now on, images are decoded in separate processes" in done.stderr
    assert rejects(armed, "extract") == [
        ("noise/deadly.jpg", 0, "decoder_died"),
        ("noise/deadly.jpg", 1, "decoder_died"),
    ]
    assert len(features(armed)) == 9


@pytest.mark.slow
def test_what_is_read_with_care_has_the_same_bytes(armed):
    run(armed, "index", "chip", "extract")
    alone = features(armed)
    add(armed, "noise/deadly.jpg", deadly.image("deadly"))
    run(armed, "index", "chip", "extract")
    assert features(armed) == alone
    before = armed.digests("data/features")
    for name in (".quadrat/store", "data"):
        shutil.rmtree(armed.path / name)
    *_, done = run(armed, "index", "chip", "extract", QUADRAT_ISOLATE_DECODING="true")
    assert "died unexpectedly" not in done.stderr
    assert armed.digests("data/features") == before


@pytest.mark.slow
def test_a_header_that_kills_its_reader_is_a_reject_and_the_run_goes_on(armed):
    armed.set(bucket__max_rejects=0.5)
    run(armed, "index")
    before = pq.read_table(armed.path / "data/index/images.parquet")
    add(armed, "noise/deadly.jpg", deadly.image("at once"), points=0)
    (done,) = run(armed, "index")
    assert "died unexpectedly with exit code -7" in done.stderr
    assert rejects(armed, "index") == [("noise/deadly.jpg", None, "decoder_died")]
    assert pq.read_table(armed.path / "data/index/images.parquet").equals(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_image_that_is_never_decoded_is_a_reject_and_the_run_goes_on(armed):
    armed.env["QUADRAT_WORKERS"] = "1"
    add(armed, "noise/endless.jpg", deadly.image("endless"))
    *_, done = run(armed, "index", "chip", "extract")
    assert "noise/endless.jpg: not decoded after 60 s; stopping this worker" in done.stderr
    assert {reason for _, _, reason in rejects(armed, "extract")} == {"too_slow"}
    assert len(features(armed)) == 9


@pytest.mark.slow
@pytest.mark.parametrize("chips", ["few", "many"])
def test_an_export_leaves_out_the_image_that_kills_its_decoder_and_no_other(armed, tmp_path, chips):
    """Few chips are encoded in threads, many in processes of their own."""
    if chips == "many":
        for row in range(0, 90, 3):
            for key in ("noise/000.png", "plain/001.png"):
                armed.bucket.points += [
                    {"image": key, "row": row, "column": column, "label": "x"}
                    for column in (1, 31, 61, 91)
                ]
    add(armed, "stripes/deadly.jpg", deadly.image("deadly"))
    armed.set(extract__max_rejects=0.2, shards__count=1)
    run(armed, "index", "chip")
    done = armed.run("python", "-m", "stages.export", str(tmp_path / "given"))
    assert ("export: decoding an image ended its process" in done.stderr) == (chips == "many")
    tables = (armed.path / "data/chips").glob("0*.parquet")
    n = sum(pq.read_metadata(table).num_rows for table in tables) - 2
    assert f"{n} chips, {n} computed, 0 reused, 2 rejected" in done.stdout
    assert len(list((tmp_path / "given").rglob("*.png"))) == n


AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
"""Root may read anything."""


@pytest.mark.slow
def test_a_file_that_may_not_be_read_is_a_reject_and_the_next_run_asks_again(repo):
    repo.set(bucket__max_rejects=0.5, chip__max_rejects=0.5)
    index = [*AS_OTHERS, "python", "-m", "stages.index"]
    path = repo.bucket.folder / "noise/001.png"
    path.chmod(0)
    for _ in range(2):
        done = repo.run(*index)
        assert "23 images" in done.stderr
        assert rejects(repo, "index") == [("noise/001.png", None, "forbidden")]
    path.chmod(0o644)
    repo.run(*index)
    assert rejects(repo, "index") == []
    run(repo, "chip")
    path.chmod(0)
    repo.set(extract__max_rejects=0.5)
    repo.run(*AS_OTHERS, "python", "-m", "stages.extract")
    assert set(rejects(repo, "extract")) == {
        ("noise/001.png", row, "forbidden") for _, row, _ in rejects(repo, "extract")
    }
    for other in repo.bucket.folder.rglob("*.png"):
        other.chmod(0)
    done = repo.run(*index, check=False)
    assert done.returncode == 4
    assert "cannot be read (Permission denied)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_scene_that_is_never_decoded_is_a_reject_and_the_others_are_measured(armed):
    armed.env["QUADRAT_WORKERS"] = "1"
    armed.set(chip__method="grid", chip__nodata=0, chip__max_rejects=0.5)
    armed.set(annotations__format="folders", annotations__path=None)
    add(armed, "noise/endless.jpg", deadly.image("never loaded"), points=0)
    *_, done = run(armed, "index", "chip")
    assert "noise/endless.jpg: not decoded after 60 s; stopping this worker" in done.stderr
    assert rejects(armed, "chip") == [("noise/endless.jpg", None, "too_slow")]
    tables = map(pq.read_table, (armed.path / "data/chips").glob("0*.parquet"))
    assert len({key for table in tables for key in table["key"].to_pylist()}) == 9


@pytest.fixture
def with_rejects(tmp_path):
    """A clone in which each stage has something to leave out, and a setting leaves out more."""
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    path = repo.bucket.folder / "noise/001.png"
    path.write_bytes(path.read_bytes()[:-4000])
    add(repo, "page.jpg", b"<html>not found</html>", points=0)
    repo.bucket.points[0]["row"] = 5000
    repo.bucket.points[1] |= {"image": "<script>alert(1)</script>.png"}
    repo.points()
    return repo


@pytest.mark.slow
def test_rejects_are_in_the_metrics_and_the_report_and_the_run_succeeds(with_rejects):
    repo = with_rejects
    done = repo.run("dvc", "repro")
    assert done.returncode == 0
    figures = json.loads((repo.path / "results/all_metrics.json").read_text())
    names = ("n_rejects_index", "n_rejects_chip", "n_rejects_extract")
    assert [figures[name] for name in names] == [1, 2, 6]
    page = (repo.path / "results/report.html").read_text().replace("<wbr>", "")
    for reason in ("not_an_image", "points_outside", "no_such_image", "truncated"):
        assert reason in page
    assert "page.jpg" in page
    assert "<script>alert(1)" not in page


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["index", "chip", "extract"])
def test_too_many_rejects_of_a_stage_stop_it_and_leave_its_rejects_to_be_seen(with_rejects, stage):
    repo = with_rejects
    section = {"index": "bucket", "chip": "chip", "extract": "extract"}[stage]
    repo.set(**{f"{section}__max_rejects": 0.0})
    stages = ["index", "chip", "extract"]
    run(repo, *stages[: stages.index(stage)])
    done = repo.run("python", "-m", f"stages.{stage}", check=False)
    assert done.returncode == 5
    assert f"over {section}.max_rejects 0.0; fix them, or set {section}.max_rejects" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(rejects(repo, stage)) == {"index": 1, "chip": 2, "extract": 6}[stage]
    assert repo.run("dvc", "repro", check=False).returncode != 0
