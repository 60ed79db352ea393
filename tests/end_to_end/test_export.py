"""Export: chips as image files, in a folder and on S3."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import exifread
import numpy as np
import pandas as pd
import pytest
import servers
from conftest import Bucket, new_repo, texture
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational
from stage_counts import stage_counts
from test_sessions import NAMES, Lake

from pipeline.commands.export import write
from pipeline.storage.folder import Folder
from stages import export

LABELS = ("round", "long")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """Two sessions of 30 particles, indexed and cut into chips."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.run("index", "chip")
    return lake


@pytest.fixture
def lake(sampled, monkeypatch, tmp_path):
    """A copy of the clone that may be changed; its folder is the working directory."""
    shutil.copytree(sampled.repo.path, tmp_path / "repo")
    monkeypatch.chdir(tmp_path / "repo")
    return sampled


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `python -m stages.export`; return its exit code, the chips computed, and its errors."""

    def ran(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        code = export.main()
        printed = capsys.readouterr()
        counts = stage_counts(printed.out)
        return code, counts[0]["computed"] if counts else None, printed.err

    return ran


def stamps(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def exif(path):
    """What ExifRead finds in a file."""
    with path.open("rb") as stream:
        found = exifread.process_file(stream, details=False)
    return {name: getattr(tag, "values", None) for name, tag in found.items()}


def test_chips_come_by_label_with_their_own_pixels_place_and_time(lake, run, tmp_path):
    target = tmp_path / "given"
    assert run(target, "--by-label")[:2] == (0, 60)
    assert sorted(path.name for path in target.iterdir()) == [
        "chips.parquet",
        "long",
        "manifest.json",
        "round",
    ]
    table = pd.read_parquet(target / "chips.parquet")
    measured = pd.read_parquet("data/labels/measurements")
    joined = table.merge(measured[["chip_id", "id", "session", "timestamp"]], on="chip_id")
    assert len(joined) == 60
    for row in joined.itertuples():
        session = lake.sessions[NAMES.index(row.session)]
        path = target / row.object
        assert path.parts[len(target.parts)] == LABELS[row.id % 2 == 0]
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), session.pixels[row.id])
        tags = exif(path)
        assert tags["EXIF ImageUniqueID"] == row.chip_id.hex()
        assert tags["GPS GPSLatitudeRef"] == "NS"[NAMES.index(row.session)]
        assert tags["GPS GPSLongitudeRef"] == "WE"[NAMES.index(row.session)]
        at = tags["EXIF DateTimeOriginal"] + "." + tags.get("EXIF SubSecTimeOriginal", "0")
        assert pd.to_datetime(at, format="%Y:%m:%d %H:%M:%S.%f") == row.timestamp
    manifest = json.loads((target / "manifest.json").read_text())
    sizes = [(target / name).stat().st_size for name in table["object"]]
    assert (manifest["chips"], manifest["files"], manifest["bytes"]) == (60, 60, sum(sizes))


def test_a_second_run_writes_nothing_and_a_third_only_what_was_lost(lake, run, tmp_path):
    target = tmp_path / "given"
    run(target)
    first = stamps(target)
    assert run(target)[:2] == (0, 0)
    assert stamps(target) == first
    objects = pd.read_parquet(target / "chips.parquet")["object"].tolist()
    whole = {name: (target / name).read_bytes() for name in objects[:2]}
    (target / objects[0]).unlink()
    (target / objects[1]).write_bytes(whole[objects[1]][:-1])
    (target / "mine.txt").write_text("not an export's")
    assert run(target)[:2] == (0, 2)
    second = stamps(target)
    assert {name for name in first if second[name] != first[name]} <= {
        *objects[:2],
        "manifest.json",
    }
    assert {name: (target / name).read_bytes() for name in objects[:2]} == whole
    assert (target / "mine.txt").read_text() == "not an export's"


def test_a_relabelled_chip_moves_and_leaves_nothing_behind(lake, run, tmp_path):
    target = tmp_path / "given"
    run(target, "--by-label")
    first = stamps(target)
    path = Path("data/labels/labels.parquet")
    labels = pd.read_parquet(path)
    rounds = labels.index[labels["label"] == "round"]
    labels.loc[rounds[:2], "label"] = "long"
    labels.loc[rounds[2:], "label"] = "disc"
    labels.to_parquet(path)
    (target / "disc").write_text("in the way of a folder")
    assert run(target, "--by-label")[0] == 4
    (target / "disc").unlink()
    code, computed, _ = run(target, "--by-label")
    assert (code, 28 <= computed <= 30) == (0, True)
    assert not (target / "round").exists()
    second = stamps(target)
    kept = {name for name in first if name.startswith("long/")}
    assert {name: first[name] for name in kept} == {name: second[name] for name in kept}
    assert sum(name.startswith("disc/") for name in second) == 28
    assert sum(name.startswith("long/") for name in second) == 32


def test_what_cannot_be_written_stops_without_a_manifest_and_the_next_run_goes_on(
    lake, run, tmp_path
):
    whole, target = tmp_path / "whole", tmp_path / "given"
    run(whole)
    objects = pd.read_parquet(whole / "chips.parquet")["object"].tolist()
    in_the_way = target / objects[-1]
    in_the_way.mkdir(parents=True)
    code, _, said = run(target)
    assert code == 4
    assert f"{in_the_way}: " in said
    assert not (target / "manifest.json").exists()
    in_the_way.rmdir()
    standing = stamps(target)
    code, computed, _ = run(target)
    same = sum(stamps(target)[name] == stamp for name, stamp in standing.items())
    assert (code, computed) == (0, 60 - same)
    assert same > 30
    assert {name: (target / name).read_bytes() for name in stamps(whole)} == {
        name: (whole / name).read_bytes() for name in stamps(whole)
    }


def test_a_file_is_made_again_if_what_it_says_has_changed_and_not_if_nothing_of_it_has(
    lake, run, tmp_path
):
    target = tmp_path / "given"
    run(target)
    first = stamps(target)
    here = replace(lake.repo, path=Path.cwd())
    here.set(extract__alpha="white")  # opaque images come out the same
    assert run(target)[:2] == (0, 0)
    second = stamps(target)
    assert {name for name in first if first[name] != second[name]} == {
        "chips.parquet",
        "manifest.json",
    }
    measured = next(iter(sorted(Path("data/labels/measurements").glob("*.parquet"))))
    table = pd.read_parquet(measured)
    table.loc[3, "timestamp"] += pd.Timedelta(seconds=1)
    table.to_parquet(measured)
    assert run(target)[:2] == (0, 1)


def test_a_storage_that_loses_a_byte_is_found_out(lake, run, tmp_path, monkeypatch):
    lost: list[str] = []
    run(tmp_path / "given")
    next((tmp_path / "given").rglob("*.png")).unlink()

    class Losing(Folder):
        def put(self, key, data):
            if not lost:
                lost.append(f"{self.root}/{key}: has {len(data) - 1:,} bytes")
                data = data[:-1]
            super().put(key, data)

    monkeypatch.setattr(write, "open_storage", lambda url, **more: Losing(Path(url), **more))
    code, _, said = run(tmp_path / "given")
    assert code == 4
    assert lost[0] in said
    assert "were written; run it again" in said
    assert not (tmp_path / "given" / "manifest.json").exists()


def members(folder):
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                found[member.name] = tar.extractfile(member).read()
    return found


def test_tars_hold_each_chip_beside_its_facts_and_repeat_to_the_byte(lake, run, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    name = "{label}/{key}_{row}_{col}"
    assert run(one, "--webdataset", "--format", "jpeg", "--name", name)[:2] == (0, 60)
    assert run(other, "--webdataset", "--format", "jpeg", "--name", name)[:2] == (0, 60)
    found = members(one)
    names = list(found)
    assert len(names) == 120
    for picture, facts in zip(names[::2], names[1::2], strict=True):
        assert picture.rpartition("/")[2].count(".") == 1, "WebDataset cuts at the first dot"
        assert (picture[:-4], facts[:-5]) == (facts[:-5], picture[:-4])
        said = json.loads(found[facts])
        assert picture.startswith(f"{said['label']}/")
        with Image.open(io.BytesIO(found[picture])) as image:
            assert image.size == (said["width"], said["height"])
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()
    }
    assert run(one, "--webdataset", "--format", "jpeg", "--name", name)[:2] == (0, 0)


def test_label_studio_gets_a_task_a_chip_with_its_label(lake, run, tmp_path):
    target = tmp_path / "given"
    assert run(target, "--label-studio")[0] == 0
    tasks = json.loads((target / "tasks.json").read_text())
    assert len(tasks) == 60
    for task in tasks:
        prefix, _, name = task["data"]["image"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert (target / name).is_file()
        (result,) = task["annotations"][0]["result"]
        assert result["type"] == "choices"
        assert result["value"]["choices"][0] in LABELS
    assert run(target, "--label-studio", "https://x.org/")[:2] == (0, 0)
    assert json.loads((target / "tasks.json").read_text())[0]["data"]["image"].startswith(
        "https://x.org/2023/"
    )
    assert run(target)[0] == 0
    assert not (target / "tasks.json").exists()


def test_s3_gets_every_object_once(lake, run, tmp_path, monkeypatch):
    with servers.moto(tmp_path / "s3") as endpoint:
        for name, value in servers.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        client = servers.client(endpoint)
        client.create_bucket(Bucket="given")
        target = "s3://given/to/people"

        def listed():
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="given")
            return {
                item["Key"]: (item["ETag"], item["LastModified"])
                for page in pages
                for item in page["Contents"]
            }

        assert run(target, "--by-label", "--label-studio")[:2] == (0, 60)
        first = listed()
        assert len(first) == 63
        assert all(key.startswith("to/people/") for key in first)
        assert run(target, "--by-label", "--label-studio")[:2] == (0, 0)
        assert listed() == first
        lost = next(key for key in first if key.endswith(".png"))
        client.delete_object(Bucket="given", Key=lost)
        assert run(target, "--by-label", "--label-studio")[:2] == (0, 1)
        assert listed()[lost][0] == first[lost][0]
        body = client.get_object(Bucket="given", Key="to/people/tasks.json")["Body"].read()
        assert json.loads(body)[0]["data"]["image"].startswith(f"{target}/")


@pytest.mark.slow
def test_many_chips_are_encoded_in_processes_to_the_same_bytes(lake, run, tmp_path, monkeypatch):
    run(tmp_path / "one")
    monkeypatch.setattr(write, "FEW", 1)
    run(tmp_path / "other")
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 62
    for path in files:
        other = tmp_path / "other" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_two_chips_of_one_name_stop_before_anything_is_written(lake, run, tmp_path):
    table = pd.concat(map(pd.read_parquet, sorted(Path("data/chips").glob("0*.parquet"))))
    code, _, said = run(tmp_path / "given", "--name", "{key}")
    assert code == 2
    assert said.startswith("--name: '{key}' gives 2023/")
    assert said.strip().endswith(" has too; put {key}, {row} and {col}, or {chip_id}, into it")
    places = re.findall(r"(2023/\S+\.tif) \((\d+), (\d+)\)", said)
    assert len(places) == 2
    assert {(key, int(row), int(col)) for key, row, col in places} <= {
        (row.key, row.row, row.col) for row in table.itertuples()
    }
    assert places[0][0] == places[1][0]
    assert not (tmp_path / "given").exists()


def test_a_damaged_table_beside_the_files_is_said(lake, run, tmp_path):
    target = tmp_path / "given"
    assert run(target)[0] == 0
    path = target / "chips.parquet"
    whole = pd.read_parquet(path)
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes(20) + data[60:])
    code, _, said = run(target)
    assert (code, said.count("\n")) == (3, 1)
    assert f"{path}: is no table of exported chips (" in said
    whole.assign(object_size="many").to_parquet(path)
    code, _, said = run(target)
    assert (code, said.count("\n")) == (3, 1)
    assert "is no table of exported chips (Failed to parse string: 'many'" in said


LONG = "x" * 120 + "/" + "y" * 230


def test_a_name_that_is_too_long_for_a_file_stops_before_anything_is_written(lake, run, tmp_path):
    target = tmp_path / "given"
    code, _, said = run(target, "--name", f"{LONG}{{chip_id}}")
    assert code == 2
    assert re.search(r"gives .* \(\d+, \d+\) the name 'x+…' of 266 bytes, and a file or fol", said)
    assert not target.exists()


def test_a_label_called_as_the_exports_own_file_stops_before_anything_is_written(
    lake, run, tmp_path
):
    target = tmp_path / "given"
    path = Path("data/labels/labels.parquet")
    labels = pd.read_parquet(path)
    labels.loc[labels["label"] == "long", "label"] = "manifest.json"
    labels.to_parquet(path)
    code, _, said = run(target, "--by-label")
    assert code == 2
    assert "'manifest.json/" in said
    assert "manifest.json is the export's own file; put text before the first field" in said
    assert not target.exists()
    assert run(target, "--name", "chips/{label}/{chip_id}")[:2] == (0, 60)
    assert len([*(target / "chips/manifest.json").iterdir()]) == 30
    assert run(tmp_path / "flat", "--name", "manifest.json{chip_id}")[:2] == (0, 60)


def test_tars_hold_names_of_any_length(lake, run, tmp_path):
    target = tmp_path / "given"
    assert run(target, "--webdataset", "--name", f"{LONG}{{chip_id}}")[:2] == (0, 60)
    names = []
    for path in sorted(target.glob("*.tar")):
        with tarfile.open(path, "r|*") as tar:  # as WebDataset reads: without going back
            names += [member.name for member in tar]
    ids = pd.read_parquet(target / "chips.parquet")["chip_id"]
    wanted = (f"{LONG}{one.hex()}.{ending}" for one in ids for ending in ("png", "json"))
    assert sorted(names) == sorted(wanted)


@pytest.mark.parametrize("place", ["", "given", "../"])
def test_chips_are_not_put_among_the_images(lake, run, place):
    target = lake.sessions[0].folder.parent.parent / place
    code, _, said = run(target)
    assert code == 2
    assert "is the bucket of images, in it or around it" in said


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Ten whole photographs with a camera's place and time; one is torn behind its header."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    for number in range(10):
        block = Image.Exif()
        block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:02:29 23:59:58"
        gps = block.get_ifd(ExifTags.IFD.GPSInfo)
        gps[1], gps[2] = "S", tuple(map(IFDRational, (17, 30, number)))
        gps[3], gps[4] = "W", tuple(map(IFDRational, (149, 0, 0)))
        texture("noise", number).save(folder / f"{number}.jpg", exif=block.tobytes())
    torn = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(torn[: len(torn) // 2])
    repo = new_repo(tmp_path / "repo", Bucket(folder))
    text = (repo.path / "params.yaml").read_text(encoding="utf-8")
    kept = [
        line for line in text.splitlines() if not line.startswith(("  size:", "  path: points"))
    ]
    (repo.path / "params.yaml").write_text("\n".join(kept), encoding="utf-8")
    repo.set(chip__method="whole", annotations__format="folders")
    for stage in ("index", "chip"):
        repo.run("python", "-m", f"stages.{stage}")
    monkeypatch.chdir(repo.path)
    return repo


def test_a_cameras_place_and_time_go_along_and_a_torn_image_is_left_out_and_said(
    photographs, run, tmp_path
):
    target = tmp_path / "given"
    code, _, said = run(target, "--name", "{key_stem}")
    assert code == 5
    assert "export: 1 of 10 rows rejected (0.100), over extract.max_rejects 0.05" in said
    assert not (target / "manifest.json").exists()
    photographs.set(extract__max_rejects=0.2)
    assert run(target, "--name", "{key_stem}")[:2] == (0, 0)
    assert json.loads((target / "manifest.json").read_text())["left_out"] == 1
    assert sorted(path.name for path in target.glob("*.png")) == [
        f"{number}.png" for number in range(10) if number != 3
    ]
    tags = exif(target / "7.png")
    assert tags["EXIF DateTimeOriginal"] == "2024:02:29 23:59:58"
    assert tags["GPS GPSLatitudeRef"] + tags["GPS GPSLongitudeRef"] == "SW"
    assert [part.num / part.den for part in tags["GPS GPSLatitude"]] == [17, 30, 7]


def is_gone(group):
    """Whether the last process of a group ends within half a minute."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_no_manifest_and_no_process_and_ends_as_if_never_killed(
    tmp_path,
):
    lake = Lake(tmp_path, particles=400)
    lake.run("index", "chip")
    whole, target = tmp_path / "whole", tmp_path / "given"
    command = [sys.executable, "-m", "stages.export", "--by-label"]
    where = {"cwd": lake.repo.path, "env": lake.repo.env}
    subprocess.run([*command, whole], check=True, **where)
    for files in (1, 150, 600):
        begun = subprocess.Popen([*command, target], start_new_session=True, **where)
        while begun.poll() is None and len(list(target.rglob("*.png"))) < files:
            time.sleep(0.02)
        assert begun.poll() is None
        begun.kill()
        begun.wait()
        assert not (target / "manifest.json").exists()
        assert is_gone(begun.pid)
    subprocess.run([*command, target], check=True, **where)
    assert {name: (target / name).read_bytes() for name in stamps(whole)} == {
        name: (whole / name).read_bytes() for name in stamps(whole)
    }
