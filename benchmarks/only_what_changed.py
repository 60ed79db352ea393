"""Only what changed: the rows and the seconds that a small change costs, and what no change does.

A bucket of JPEGs, an ordinary backbone with random weights, all other settings as shipped. Then:

- after each of ten changes, the rows that extract computed against those that the change needs,
  and the seconds against the first run's: of 1 % of the images or points at most a tenth;
- `dvc repro` with nothing changed against DVC's own with five trivial stages: at most 1.3 times.

By default 300 images, which takes minutes. The fixed costs of a run, training included, have more
weight there than on the 2,000 images that the limits are for: `--images 2000`.

    python benchmarks/only_what_changed.py [--images N] [--points N] [--extractor torchvision/NAME]
        [--workers N] [--only-nothing] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _shared import ROOT, about
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torchvision import models

from pipeline.extract import trial

KINDS = ("across", "down", "checks", "noise")
HEIGHT, WIDTH = 240, 320
UNLABELLED = 0.1
MOST_OF_FIRST = 0.1
MOST_OF_TRIVIAL = 1.3
ROUNDS = 5
WEIGHTS = "weights.safetensors"
Change = Callable[[], int | None]


def picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a picture of *kind*, in a random colour and pitch."""
    row, col = np.mgrid[:HEIGHT, :WIDTH] / rng.uniform(3, 6)
    waves = {"across": np.sin(row), "down": np.sin(col), "checks": np.sin(row) * np.sin(col)}
    grey = waves[kind] if kind in waves else rng.uniform(-1, 1, row.shape)
    pixels = 128 + grey[:, :, None] * rng.uniform(40, 110, 3) + rng.normal(0, 6, (*row.shape, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@dataclass
class Bucket:
    """A folder of pictures and the points on them; a change returns the rows it needs."""

    folder: Path
    per_image: int
    rng: np.random.Generator
    points: list[dict[str, Any]] = field(default_factory=list)
    made: int = 0

    def add(self, count: int) -> int:
        """Add images, with points of which some have no label."""
        for number in range(self.made, self.made + count):
            kind = KINDS[number % len(KINDS)]
            key = self._draw(f"{kind}/{number:06d}.jpg")
            for place in self.rng.choice(HEIGHT * WIDTH, self.per_image, replace=False).tolist():
                label = "" if self.rng.random() < UNLABELLED else kind
                row, column = divmod(place, WIDTH)
                self.points.append({"image": key, "row": row, "column": column, "label": label})
        self.made += count
        return count * self.per_image

    def replace(self, count: int) -> int:
        """Replace the pictures of some images."""
        return self.per_image * len([self._draw(key) for key in self._some(count)])

    def delete(self, count: int) -> None:
        """Delete images and their points."""
        gone = self._some(count)
        for key in gone:
            (self.folder / key).unlink()
        self.points = [point for point in self.points if point["image"] not in gone]

    def move(self, count: int) -> int:
        """Move points to places of their images where there is none."""
        taken = {(point["image"], point["row"], point["column"]) for point in self.points}
        for point in self.rng.choice(np.array(self.points), count, replace=False):
            while (point["image"], point["row"], point["column"]) in taken:
                point["row"], point["column"] = self.rng.integers(0, (HEIGHT, WIDTH)).tolist()
            taken.add((point["image"], point["row"], point["column"]))
        return count

    def relabel(self, count: int) -> None:
        """Change the labels of labelled points to another kind's."""
        labelled = np.array([point for point in self.points if point["label"]])
        for point in self.rng.choice(labelled, count, replace=False):
            point["label"] = KINDS[KINDS.index(point["label"]) - 1]

    def label(self) -> None:
        """Label the unlabelled points."""
        for point in self.points:
            point["label"] = point["label"] or point["image"].partition("/")[0]

    def write(self, path: Path) -> None:
        """Write the points table if it has changed."""
        lines = [",".join(map(str, point.values())) for point in self.points]
        text = "\n".join(["image,row,column,label", *lines, ""])
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def _draw(self, key: str) -> str:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(key.partition("/")[0], self.rng).save(path, quality=90)
        return key

    def _some(self, count: int) -> list[str]:
        keys = sorted({point["image"] for point in self.points})
        return [str(key) for key in self.rng.choice(keys, count, replace=False)]


COMPUTED = re.compile(r"extract: [\d,]+ chips, ([\d,]+) computed")


@dataclass(frozen=True)
class Repo:
    """A git repository with DVC in it."""

    path: Path
    env: dict[str, str]

    def run(self, command: str) -> list[str]:
        """Run a command, and return the lines of its standard error; exit if it fails."""
        words = command.split()
        done = subprocess.run(
            words, cwd=self.path, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{command} gave {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stderr.splitlines()

    def begin(self) -> Repo:
        """Initialise Git and DVC in the folder, and commit it."""
        commit = "git -c user.name=a -c user.email=a@b.c commit -qm begin"
        for command in ("git init -q", "dvc init -q", "git add -A", commit):
            self.run(command)
        return self

    def repro(self) -> tuple[float, int]:
        """Run `dvc repro`, and return its seconds and the rows that extract computed."""
        started = time.perf_counter()
        lines = self.run("dvc repro")
        seconds = time.perf_counter() - started
        computed = [COMPUTED.match(line) for line in lines]
        return seconds, sum(int(match[1].replace(",", "")) for match in computed if match)

    def set(self, section: str, **settings: Any) -> None:
        """Change settings of a section of params.yaml."""
        path, yaml = self.path / "params.yaml", YAML()
        params = yaml.load(path.read_text(encoding="utf-8"))
        params[section].update(settings)
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(params, stream)


def environment(folder: Path, workers: str | None) -> dict[str, str]:
    """Return the environment of a user of this Python, without this machine's settings."""
    theirs = ("AWS", "DVC", "GIT", "LUIGI", "QUADRAT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    ours = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
    }
    return kept | ours | ({"QUADRAT_WORKERS": workers} if workers else {})


def random_weights(extractor: str, path: Path) -> int:
    """Write random weights of a model, and return its input size.

    Batch norms get the statistics of these pictures, and of those that the trial of a runtime uses:
    with torchvision's initial values, the features of all chips agree to seven digits.
    """
    name = extractor.removeprefix("torchvision/")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    torch.manual_seed(0)
    model = models.get_model(name, weights=None).train()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None  # the mean of all that it sees
    size, rng = preset.crop_size[0], np.random.default_rng(0)
    pictures = [np.asarray(picture(kind, rng).resize((size, size))) for kind in KINDS * 4]
    pictures += list(trial.pictures(len(pictures), size))
    with torch.no_grad():
        model(preset(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)))
    save_file(model.state_dict(), path)
    return int(size)


def new_repo(folder: Path, bucket: Bucket, extractor: str, env: dict[str, str]) -> Repo:
    """Make a repository whose settings point at *bucket*."""
    repo = Repo(folder / "repo", env)
    repo.path.mkdir()
    for name in ("params.yaml", "dvc.yaml", "luigi.cfg", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, repo.path / name)
    size = random_weights(extractor, folder / WEIGHTS)
    repo.set("bucket", url=str(bucket.folder))
    repo.set("annotations", format="points", path="points.csv")
    repo.set("chip", method="points", size=size)
    repo.set("extract", extractor=extractor, weights=str(folder / WEIGHTS))
    return repo.begin()


def trivial(path: Path, env: dict[str, str], *, always: bool) -> Repo:
    """Make a repository of five stages that copy a file; *always*: the first runs every time."""
    path.mkdir()
    names = [f"{number}.txt" for number in range(6)]
    (path / names[0]).write_text("a line\n", encoding="utf-8")
    stages: dict[str, Any] = {
        f"copy-{number}": {"cmd": f"cp {old} {new}", "deps": [old], "outs": [new]}
        for number, (old, new) in enumerate(pairwise(names))
    }
    stages["copy-0"]["always_changed"] = always
    (path / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    return Repo(path, env).begin()


def changes(repo: Repo, bucket: Bucket, extractor: str) -> dict[str, Change]:
    """Return the changes, in the order in which they are to be made."""
    images, points = bucket.made, len(bucket.points)
    few, few_points = max(1, images // 100), max(1, points // 100)
    filters = partial(repo.set, "extract", extractor="filters", weights=None)
    weights = str(repo.path.parent / WEIGHTS)
    return {
        "1 % of images added": partial(bucket.add, few),
        "1 % of images replaced": partial(bucket.replace, few),
        "1 % of images deleted": partial(bucket.delete, few),
        "1 % of points moved": partial(bucket.move, few_points),
        "5 % of points relabelled": partial(bucket.relabel, max(1, points // 20)),
        "unlabelled points labelled": bucket.label,
        "train.learning_rate": partial(repo.set, "train", learning_rate=0.002),
        "nothing": lambda: None,
        "extractor: filters": lambda: filters() or len(bucket.points),
        "extractor: as before": partial(repo.set, "extract", extractor=extractor, weights=weights),
    }


def measure_changes(repo: Repo, bucket: Bucket, todo: dict[str, Change]) -> bool:
    """Make each change and run; print a line each, and return True if all are as expected."""
    print(f"{'change':<27} computed expected   seconds  / first")
    fine, first = True, 0.0
    for name, change in todo.items():
        expected = change() or 0
        bucket.write(repo.path / "points.csv")
        seconds, computed = repo.repro()
        first = first or seconds
        said = "" if computed == expected else "  not as expected"
        if name.startswith("1 %") and seconds > MOST_OF_FIRST * first:
            said += f"  more than {MOST_OF_FIRST}"
        line = f"{name:<27} {computed:>8,} {expected:>8,} {seconds:>9.1f} {seconds / first:>8.3f}"
        print(line + said, flush=True)
        fine &= not said
    return fine


def measure_nothing(repo: Repo, folder: Path) -> bool:
    """Run with nothing changed, in turns with five trivial stages, and check the ratio."""
    repos = {
        "Quadrat": repo,
        "five trivial stages": trivial(folder / "trivial", repo.env, always=False),
        "… the first always_changed": trivial(folder / "always", repo.env, always=True),
    }
    turns = [[each.repro()[0] for each in repos.values()] for _ in range(1 + ROUNDS)]
    medians = [median(column) for column in zip(*turns[1:], strict=True)]
    print(f"\n{'nothing changed':<27} {'seconds':>8} {'Quadrat / it':>14}")
    for name, seconds in zip(repos, medians, strict=True):
        print(f"{name:<27} {seconds:>8.2f} {medians[0] / seconds:>14.2f}")
    print(f"medians of {ROUNDS}, in turns; limit {MOST_OF_TRIVIAL} for five trivial stages")
    return bool(medians[0] <= MOST_OF_TRIVIAL * medians[1])


def main() -> int:
    """Measure both; return 1 if a count or a ratio is not as expected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--points", type=int, default=10, help="of an image")
    parser.add_argument("--extractor", default="torchvision/efficientnet_b0")
    parser.add_argument("--workers", help="QUADRAT_WORKERS")
    parser.add_argument("--only-nothing", action="store_true", help="no change but none")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    asked = parser.parse_args()
    about("dvc", "luigi", "torch")
    folder = Path(tempfile.mkdtemp(prefix="only-what-changed-"))
    try:
        bucket = Bucket(folder / "bucket", asked.points, np.random.default_rng(0))
        repo = new_repo(folder, bucket, asked.extractor, environment(folder, asked.workers))
        first = bucket.add(asked.images)
        todo: dict[str, Change] = {"first run": lambda: first}
        if not asked.only_nothing:
            todo |= changes(repo, bucket, asked.extractor)
        fine = measure_changes(repo, bucket, todo)
        return int(not measure_nothing(repo, folder) or not fine)
    finally:
        if asked.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
