"""Keys as buckets have them: each is one row, or is left out and said; nothing leaves its place."""

from __future__ import annotations

import io
import shutil

import pyarrow.parquet as pq
import pytest
from conftest import new_repo, texture, textures
from servers import BUCKET, client, environment, moto

ANYWHERE = [
    "two  spaces/ and more .jpg",
    "caf\u00e9.jpg",
    "cafe\u0301.jpg",
    "\U0001f41f/+&;=@,?#%.jpg",
    "%2F.jpg",
    "a%2Fb.jpg",
    "A.JPG",
    "a.jpg",
    "-rf.jpg",
    "--help.jpg",
    "$(touch touched).jpg",
    "`touch touched`.jpg",
    "'; touch touched #.jpg",
    'quote".jpg',
    "back\\slash.jpg",
    "*.jpg",
    "[a].jpg",
    "<script>alert(1)</script>.jpg".replace("/", "\u2215"),
    "CON.jpg",
    "x" * 251 + ".jpg",
    "tab\tin it.jpg",
]
FOLDER_ONLY = ["new\nline.jpg", "carriage\rreturn.jpg", "\x01\x7f.jpg"]
S3_ONLY = [
    "..%2f..%2fetc.jpg",
    "../up.jpg",
    "/lead.jpg",
    "a//b.jpg",
    "a/./b.jpg",
    "a.jpg/b.jpg",
    "d/" * 509 + "d.jpg",
]


def jpeg(number):
    sink = io.BytesIO()
    texture("noise", number).save(sink, "JPEG")
    return sink.getvalue()


def annotate(repo, keys):
    repo.bucket.points = [
        {"image": key, "row": number, "column": number, "label": f"label {number % 3}"}
        for number, key in enumerate(keys)
    ]
    repo.points()


def everything(folder):
    return {path for path in folder.rglob("*") if "repo" not in path.parts}


def walk(repo, keys):
    """Run what reads images; give the features' keys."""
    annotate(repo, keys)
    for stage in ("index", "chip", "extract"):
        repo.run("python", "-m", f"stages.{stage}")
    for stage in ("index", "chip", "extract"):
        assert pq.read_table(repo.path / f"data/rejects/{stage}.parquet").to_pylist() == []
    images = pq.read_table(repo.path / "data/index/images.parquet")["key"].to_pylist()
    assert images == sorted(keys, key=str.encode)
    parts = (repo.path / "data/features").glob("0*.parquet")
    assert sorted(key for part in parts for key in pq.read_table(part)["key"].to_pylist()) == (
        sorted(keys)
    )
    for key in keys:
        said = repo.run("python", "-m", "stages.trace", key).stdout if key[0] == "-" else ""
        assert "rejected" not in said
    assert list(repo.path.rglob("touched")) == []


@pytest.fixture
def repo(tmp_path):
    return new_repo(tmp_path / "repo", textures(tmp_path / "bucket", each=0))


@pytest.mark.slow
def test_a_folder_may_have_any_names(repo, tmp_path):
    keys = ANYWHERE + FOLDER_ONLY
    for number, key in enumerate(keys):
        path = repo.bucket.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    (tmp_path / "secret.jpg").write_bytes(jpeg(99))
    (repo.bucket.folder / "door.jpg").symlink_to(tmp_path / "secret.jpg")
    before = everything(tmp_path)
    walk(repo, keys)
    assert everything(tmp_path) == before


@pytest.mark.slow
def test_a_bucket_may_have_any_keys(repo, tmp_path):
    keys = ANYWHERE + S3_ONLY
    with moto(tmp_path) as endpoint:
        repo.env |= environment(endpoint)
        repo.set(bucket__url=f"s3://{BUCKET}/in")
        other = client(endpoint)
        for number, key in enumerate(keys):
            other.put_object(Bucket=BUCKET, Key=f"in/{key}", Body=jpeg(number))
        other.put_object(Bucket=BUCKET, Key="secret.jpg", Body=jpeg(99))
        before = everything(tmp_path)
        walk(repo, keys)
        assert everything(tmp_path) == before
        on_s3 = repo.digests("data/features")
        for name in (".quadrat/store", "data"):
            shutil.rmtree(repo.path / name)
        repo.env["QUADRAT_STORE"] = f"s3://{BUCKET}/store"
        walk(repo, keys)
        assert repo.digests("data/features") == on_s3
