"""The same bytes, whatever the way to them: increments, workers, directories, experiments, S3."""

from __future__ import annotations

import logging
import os
import random
import shutil

import places
import pytest
from conftest import KINDS, SIZE, Bucket, new_repo, texture
from ruamel.yaml import YAML

log = logging.getLogger(__name__)

OUTS = ("data/index", "data/chips", "data/labels", "data/features", "models", "results")

pytestmark = pytest.mark.slow


@pytest.fixture
def place(request, tmp_path):
    """An empty bucket in a folder or on a server: each test names the places that it is run on.

    All of them on all places would take ten minutes more, and find nothing else: a stage does not
    know where its bucket is.
    """
    with places.place(request.param, tmp_path) as found:
        yield found


def whole(done_repo):
    """Every image of the finished clone's bucket, by key."""
    folder = done_repo.bucket.folder
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")
    }


def clone(tmp_path, done_repo, place, name="repo"):
    """A new clone with the finished one's settings and points, its bucket in *place*."""
    points = [dict(point) for point in done_repo.bucket.points]
    repo = new_repo(tmp_path / name, Bucket(done_repo.bucket.folder, points))
    repo.set(bucket__url=place.url)
    repo.env |= place.env
    return repo


def filled(tmp_path, done_repo, place):
    """A new clone whose bucket has every image."""
    for key, data in whole(done_repo).items():
        place.put(key, data)
    return clone(tmp_path, done_repo, place)


def same(repo, done_repo):
    """Assert that all outs, and what dvc.lock says of them, are the finished clone's."""
    for folder in OUTS:
        found, wanted = repo.digests(folder), done_repo.digests(folder)
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
    assert locked(repo.path / "dvc.lock") == locked(done_repo.path / "dvc.lock")


def locked(path):
    """What a dvc.lock, a file or its text, says of the outs."""
    stages = YAML(typ="safe").load(path)["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


class Wanderer:
    """Changes a clone and its bucket at random, and in the end to what they are to be."""

    def __init__(self, seed, repo, store, images):
        self.rng = random.Random(seed)
        self.repo, self.store, self.images = repo, store, images
        self.points = [dict(point) for point in repo.bucket.points]
        self.there = {}

    def step(self):
        """Add, replace and delete images; move, relabel and drop points; change a setting."""
        for key in self.rng.sample(sorted(self.images), 8):
            self.put(key, self.rng.choice([self.images[key], self.other(key), None]))
        self.repo.bucket.points = [
            self.changed(point) if self.rng.random() < 0.1 else dict(point)
            for point in self.points
            if point["image"] in self.there and self.rng.random() < 0.9
        ]
        self.repo.set(
            train__epochs=self.rng.choice([2, 6]),
            extract__batch=self.rng.choice([16, 16, 32]),
            chip__size=self.rng.choice([24, 32, 32]),
            shards__count=self.rng.choice([2, 4, 4, 8]),
        )

    def arrive(self):
        """Make everything as it is to be."""
        for key in self.images:
            self.put(key, self.images[key])
        self.repo.bucket.points = self.points
        self.repo.set(train__epochs=6, extract__batch=16, chip__size=32, shards__count=4)

    def put(self, key, data):
        if self.there.get(key) == data:
            return
        if data is None:
            self.store.delete(key)
            del self.there[key]
        else:
            self.store.put(key, data)
            self.there[key] = data

    def other(self, key):
        path = self.repo.path.parent / "other.png"
        texture(self.rng.choice(KINDS), self.rng.randrange(1000)).save(path)
        return path.read_bytes()

    def changed(self, point):
        moved = {"row": self.rng.randrange(SIZE), "column": self.rng.randrange(SIZE)}
        labelled = {"label": self.rng.choice([*KINDS, ""])}
        return point | self.rng.choice([moved, labelled])


@pytest.mark.parametrize(
    ("place", "steps"), [("folder", 10), ("rclone", 2), ("moto", 2)], indirect=["place"]
)
def test_random_increments_end_with_the_bytes_of_one_run(tmp_path, done_repo, place, steps):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    log.warning("SEED=%d", seed)  # what pytest shows of a test that fails
    repo = clone(tmp_path, done_repo, place)
    wanderer = Wanderer(seed, repo, place, whole(done_repo))
    for key in sorted(wanderer.images)[::2]:
        wanderer.put(key, wanderer.images[key])
    for _ in range(steps):
        wanderer.step()
        repo.points()
        done = repo.run("dvc", "repro", check=False)
        # By chance there may be nothing left to evaluate; the next run must go on all the same.
        assert done.returncode == 0 or "no labelled chip is in the" in done.stderr, done.stderr
    wanderer.arrive()
    repo.points()
    repo.run("dvc", "repro")
    same(repo, done_repo)


@pytest.mark.parametrize(
    ("place", "workers"), [("folder", "1"), ("rclone", "2"), ("moto", "4")], indirect=["place"]
)
def test_any_number_of_workers_gives_the_same_bytes(tmp_path, done_repo, place, workers):
    repo = filled(tmp_path, done_repo, place)
    repo.env["QUADRAT_WORKERS"] = workers
    repo.run("dvc", "repro")
    same(repo, done_repo)


@pytest.mark.parametrize("place", ["moto"], indirect=True)
def test_luigi_alone_gives_the_same_bytes(tmp_path, done_repo, place):
    repo = filled(tmp_path, done_repo, place)
    repo.run("luigi", "--module", "pipeline.tasks", "Validate", "--local-scheduler")
    repo.run("dvc", "commit", "--force")
    same(repo, done_repo)


@pytest.mark.parametrize("place", ["rclone"], indirect=True)
def test_another_directory_gives_the_same_bytes(tmp_path, done_repo, place):
    """Elsewhere, under a name with blanks, and begun from a folder inside."""
    repo = filled(tmp_path, done_repo, place)
    moved = tmp_path / "some where/else"
    moved.parent.mkdir()
    shutil.move(repo.path, moved)
    repo.path = moved
    (moved / "notes").mkdir()
    repo.run("sh", "-c", "cd notes && dvc repro ../dvc.yaml")
    same(repo, done_repo)


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_temporary_experiment_gives_the_same_bytes(tmp_path, done_repo, place):
    repo = filled(tmp_path, done_repo, place)
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "settings")
    repo.run("dvc", "exp", "run", "--temp", "--name", "aside")
    assert not (repo.path / "dvc.lock").exists()
    refs = repo.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/aside").stdout
    lock = repo.run("git", "show", f"{refs.strip()}:dvc.lock").stdout
    assert locked(lock) == locked(done_repo.path / "dvc.lock")
    repo.run("dvc", "exp", "apply", "aside")
    same(repo, done_repo)
