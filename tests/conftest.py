"""Fixtures that several test files share: real images, real repositories, real servers."""

from __future__ import annotations

import atexit
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

BEGAN_S = time.monotonic()

settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault of ours
settings.load_profile("no deadline")

SIZE = 96
KINDS = ("stripes", "noise", "plain")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make slow MINUTES=…` is made of."""
    parser.addoption("--minutes", type=float, help="skip what has not begun after so many minutes")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that has no time left to begin in."""
    minutes = item.config.getoption("--minutes")
    if minutes is not None and time.monotonic() - BEGAN_S > 60 * minutes:
        pytest.skip("its time was over (--minutes)")


def texture(kind: str, seed: int) -> Image.Image:
    """One picture that a classifier can learn: stripes, noise, or a plain colour."""
    rng = np.random.default_rng(seed)
    if kind == "stripes":
        wave = np.sin(np.arange(SIZE) / rng.uniform(1.5, 2.5)) * 90 + 128
        grey = np.tile(wave, (SIZE, 1))
    elif kind == "noise":
        grey = rng.uniform(0, 255, (SIZE, SIZE))
    else:
        grey = np.full((SIZE, SIZE), rng.uniform(60, 200))
    pixels = grey[:, :, None] + rng.normal(0, 6, (SIZE, SIZE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@dataclass
class Bucket:
    """A folder of textures, and the points on them."""

    folder: Path
    points: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: str, seed: int, points: int = 6) -> str:
        """Add one image and points on it; give its key."""
        key = f"{kind}/{seed:03d}.png"
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        texture(kind, seed).save(path)
        rng = np.random.default_rng(seed + 1000)
        for row, col in rng.integers(0, SIZE, (points, 2)).tolist():
            self.points.append({"image": key, "row": row, "column": col, "label": kind})
        return key

    def write(self, path: Path) -> None:
        """Write the points table."""
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["image", "row", "column", "label"])
            writer.writeheader()
            writer.writerows(self.points)


def textures(folder: Path, each: int = 8) -> Bucket:
    """A bucket with *each* images of every kind."""
    bucket = Bucket(folder)
    for number in range(each):
        for kind in KINDS:
            bucket.add(kind, number)
    return bucket


@dataclass
class Repo:
    """A user's clone: settings, git and DVC; the code is this checkout's."""

    path: Path
    bucket: Bucket
    env: dict[str, str]

    def run(
        self, *command: str, check: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, as a user would."""
        done = subprocess.run(
            command, cwd=self.path, env=self.env | env, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command} gave {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def said(self, *command: str, **env: str) -> str:
        """Run a command; give all that it printed."""
        done = self.run(*command, **env)
        return done.stdout + done.stderr

    def points(self) -> None:
        """Write the bucket's points where params.yaml looks for them."""
        self.bucket.write(self.path / "points.csv")

    def set(self, **settings: Any) -> None:
        """Change params.yaml: `section__key=value`."""
        yaml = YAML()
        path = self.path / "params.yaml"
        params = yaml.load(path.read_text(encoding="utf-8"))
        for name, value in settings.items():
            section, _, key = name.partition("__")
            params[section][key] = value
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(params, stream)

    def digests(self, *folders: str) -> dict[str, bytes]:
        """Every file of the outs and its bytes."""
        return {
            path.relative_to(self.path).as_posix(): path.read_bytes()
            for folder in folders or ("data", "models", "results")
            for path in sorted((self.path / folder).rglob("*"))
            if path.is_file() and path.name != ".gitignore"
        }


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of a user whose virtual environment is active."""
    here = Path(sys.executable).parent
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS", "DVC", "PYTHONDONTWRITE", "QUADRAT"))
    }
    return kept | {
        "PATH": f"{here}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.c",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.c",
        **extra,
    }


@cache
def initialised() -> Path:
    """A folder with git and DVC in it, to be copied: DVC takes seconds to make one."""
    folder = Path(tempfile.mkdtemp(prefix="quadrat-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    commands = (["git", "init", "-q"], ["dvc", "init", "-q"])
    for command in (*commands, ["dvc", "config", "core.check_update", "false"]):
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    return folder


def new_repo(path: Path, bucket: Bucket) -> Repo:
    """Make a clone at *path* whose settings point at *bucket*."""
    shutil.copytree(initialised(), path)
    for name in ("params.yaml", "dvc.yaml", "luigi.cfg", ".gitignore"):
        shutil.copy(ROOT / name, path / name)
    repo = Repo(path, bucket, environment())
    repo.points()
    repo.set(
        bucket__url=str(bucket.folder),
        annotations__path="points.csv",
        chip__size=32,
        train__epochs=6,
        validate__gallery_size=6,
        validate__bootstrap_rounds=100,
        validate__title="textures",  # or the report is named after the bucket
        shards__count=4,
    )
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "begin")
    return repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A fresh clone with a bucket of 24 textures."""
    return new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))


@pytest.fixture(scope="session")
def done_repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A clone in which `dvc repro` has run; not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    repo = new_repo(folder / "repo", textures(folder / "bucket"))
    repo.said("dvc", "repro")
    return repo


@pytest.fixture
def copy_of_done(done_repo: Repo, tmp_path: Path) -> Callable[[], Repo]:
    """Give a copy of the finished clone, its store and its bucket, to be changed."""

    def copied() -> Repo:
        shutil.copytree(done_repo.path, tmp_path / "copy", symlinks=True)
        shutil.copytree(done_repo.bucket.folder, tmp_path / "bucket", copy_function=shutil.copy2)
        bucket = Bucket(tmp_path / "bucket", [dict(point) for point in done_repo.bucket.points])
        repo = Repo(tmp_path / "copy", bucket, dict(done_repo.env))
        repo.set(bucket__url=str(bucket.folder))
        return repo

    return copied
