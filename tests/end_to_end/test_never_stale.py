"""Never stale: whatever is done to fool the store, what comes is what an empty store would give.

The stages run one after another as dvc runs them, each round in a process that begins with torch
loaded: a round takes about a second, so that there can be many.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
import shutil
import subprocess
import sys

import places
import pytest
from conftest import SIZE, Bucket, new_repo, texture
from PIL import Image

log = logging.getLogger(__name__)

KEYS = [f"{number:02d}.png" for number in range(12)]
OUTS = ("data/manifests", "data/index", "data/chips", "data/features")

MINE = '''
"""An extractor of the user's own, with weights and a module beside it."""
import mine_scale
import torch
from pipeline.extract.extractors import Identity

class Mine:
    dim, size = 4, 16
    EXPORTS = False

    def __init__(self, extract, weights):
        data = torch.tensor(list(weights.path.read_bytes()), dtype=torch.float32)
        self.weights, self.sha256 = data.reshape(-1, 4) / 255, weights.sha256

    def identity(self):
        return Identity("mine", "", self.sha256, "none", 1)

    def to(self, device):
        return self

    def __call__(self, chips):
        return chips.flatten(1).float() @ self.weights * mine_scale.SCALE + 0
'''


def png(seed):
    """A picture whose file has the same size for every seed."""
    stream = io.BytesIO()
    texture("noise", seed).save(stream, "png", compress_level=0)
    return stream.getvalue()


STAGES = """
import json, os, runpy, sys, traceback
import PIL.Image, pyarrow.compute, pyarrow.parquet, pydantic, torch

def run(path, env, said):
    os.chdir(path)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = [str(path), *env["PYTHONPATH"].split(":"), *sys.path[1:]]
    stream = open(said, "w")
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    for stage in ("index", "chip", "extract"):
        sys.argv = [stage]
        try:
            runpy.run_module(f"stages.{stage}", run_name="__main__")
        except SystemExit as end:
            if end.code:
                return end.code
        except BaseException:
            traceback.print_exc()
            return 99
    return 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        code = run(*json.loads(line))
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""A process with torch loaded that forks one for each line: a path, its environment, a log."""


@pytest.fixture(scope="module")
def stages():
    """Run index, chip and extract somewhere; give their exit code."""
    command = [sys.executable, "-c", STAGES]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as server:

        def run(*order):
            server.stdin.write(json.dumps(order) + "\n")
            return int(server.stdout.readline())

        yield run
        server.stdin.close()


class Checkout:
    """A clone whose store is to be fooled."""

    def __init__(self, folder, place, rng, stages):
        self.folder, self.place, self.rng, self.stages = folder, place, rng, stages
        self.seed, self.truths = 100, 0
        self.files = {key: png(number) for number, key in enumerate(KEYS)}
        bucket = Bucket(folder)
        for key, data in self.files.items():
            place.put(key, data)
            for row, col in rng.sample([(r, c) for r in range(SIZE) for c in range(SIZE)], 4):
                bucket.points.append({"image": key, "row": row, "column": col, "label": "a"})
        self.repo = new_repo(folder / "repo", bucket)
        self.repo.env |= place.env | {"QUADRAT_WORKERS": "1"}
        self.repo.env.pop("PYTHONDONTWRITEBYTECODE", None)
        config = (self.repo.path / "luigi.cfg").read_text()
        self.write("luigi.cfg", config.replace("retry_delay = 5", "retry_delay = 0.5"))
        self.write("mine.py", MINE)
        self.write("mine_scale.py", "SCALE = 1.0\n")
        (self.repo.path / "mine.bin").write_bytes(rng.randbytes(16 * 16 * 3 * 4))
        self.repo.set(
            bucket__url=place.url,
            chip__size=16,
            extract__extractor="mine:Mine",
            extract__weights="mine.bin",
        )

    def write(self, name, text):
        (self.repo.path / name).write_text(text)

    def result(self, repo=None):
        """Run the stages; give every byte of their outs."""
        repo = repo or self.repo
        said = repo.path / "said.txt"
        code = self.stages(str(repo.path), repo.env, str(said))
        self.said = said.read_text()
        assert code == 0, self.said
        return repo.digests(*OUTS)

    def truth(self):
        """What a clone that has never run gives."""
        self.truths += 1
        path = self.folder / f"truth{self.truths}"
        path.mkdir()
        for name in ("params.yaml", "luigi.cfg", "points.csv", "mine.py", "mine_scale.py"):
            shutil.copy(self.repo.path / name, path)
        shutil.copy(self.repo.path / "mine.bin", path)
        try:
            return self.result(type(self.repo)(path, self.repo.bucket, dict(self.repo.env)))
        finally:
            shutil.rmtree(path)

    def picture(self):
        self.seed += 1
        return png(self.seed)

    def in_place(self, path, data):
        """Write other bytes of the same size into the same file, and set its time back."""
        stat = path.stat()
        assert len(data) == stat.st_size
        with path.open("r+b") as stream:
            stream.write(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    # What changes the result.

    def other_bytes_of_the_same_size_and_time(self):
        key = self.rng.choice(KEYS)
        self.files[key] = self.picture()
        self.place.overwrite(key, self.files[key])

    def one_pixel_of_an_image(self):
        key = self.rng.choice(KEYS)
        point = next(point for point in self.repo.bucket.points if point["image"] == key)
        picture = Image.open(io.BytesIO(self.files[key]))
        pixel = point["column"], point["row"]
        red, green, blue = picture.getpixel(pixel)
        picture.putpixel(pixel, (red ^ 128, green, blue))
        stream = io.BytesIO()
        picture.save(stream, "png", compress_level=0)
        self.files[key] = stream.getvalue()
        self.place.overwrite(key, self.files[key])

    def two_images_that_change_places(self):
        one, other = self.rng.sample(KEYS, 2)
        self.files[one], self.files[other] = self.files[other], self.files[one]
        if isinstance(self.place, places.Folder):
            root = self.place.root
            (root / one).rename(root / "aside")
            (root / other).rename(root / one)
            (root / "aside").rename(root / other)
        else:
            for key in (one, other):
                self.place.put(key, self.files[key])

    def another_window_with_the_same_centre(self):
        self.repo.set(chip__size=self.other(16, 20, 24, now="chip_size"))

    def other_weights_under_the_same_path(self):
        path = self.repo.path / "mine.bin"
        self.in_place(path, self.rng.randbytes(path.stat().st_size))

    def another_precision(self):
        self.repo.set(extract__precision=self.other("fp32", "bf16", now="precision"))

    def another_batch(self):
        self.repo.set(extract__batch=self.other(16, 32, now="batch"))

    def other_code_under_the_same_name(self):
        text = MINE.replace("+ 0", f"+ {self.other(*range(10), now='plus')}")
        self.in_place(self.repo.path / "mine.py", text.encode())

    def other_code_in_a_module_beside_it(self):
        text = f"SCALE = {self.other(*range(1, 10), now='scale')}.0\n"
        self.in_place(self.repo.path / "mine_scale.py", text.encode())

    def other(self, *values, now):
        """Choose one of *values* that it is not now; in the beginning it is the first."""
        last = getattr(self, now, values[0])
        found = self.rng.choice([value for value in values if value != last])
        setattr(self, now, found)
        return found

    # What does harm to the store, and changes no result.

    def kept(self, *endings):
        paths = sorted((self.repo.path / ".quadrat/store").rglob("*"))
        files = [path for path in paths if path.is_file() and path.stat().st_size]
        kept = [path for path in files if path.name.endswith(endings)]
        return [
            path for path in kept if "damaged" not in path.parts and "recipes" not in path.parts
        ]

    def replace(self, path, data):
        """Put *data* in place of a file; an out may be the old one, by a hard link."""
        path.unlink()
        path.write_bytes(data)

    def flipped_bits(self):
        for path in self.some(".json", ".parquet", ".ids"):
            data = bytearray(path.read_bytes())
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            self.replace(path, bytes(data))

    def flipped_bits_in_place(self):
        """Of an out too, where that is the store's file by a hard link."""
        for path in self.some(".parquet"):
            data = bytearray(path.read_bytes())
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            path.chmod(0o644)
            path.write_bytes(bytes(data))

    def truncated_files(self):
        for path in self.some(".json", ".parquet", ".ids"):
            self.replace(path, path.read_bytes()[: self.rng.randrange(path.stat().st_size)])

    def deleted_files(self):
        for path in self.some(".json", ".parquet", ".ids"):
            path.unlink()

    def files_of_one_piece_under_the_name_of_another(self):
        for path in self.some(".json", ".parquet", ".ids"):
            ending = path.name.partition(".")[2]
            self.replace(path, self.rng.choice(self.kept(f".{ending}")).read_bytes())

    def a_whole_piece_under_the_name_of_another(self):
        endings = ("json", "parquet", "rejects.parquet", "ids")
        kept = [path for path in self.kept(".json") if "features" in path.parts]
        whole = [
            path for path in kept if all(path.with_suffix(f".{end}").exists() for end in endings)
        ]
        if not whole:
            return
        old, new = self.rng.choice(whole), self.rng.choice(kept)
        for ending in endings:
            data = old.with_suffix(f".{ending}").read_bytes()
            new.with_suffix(f".{ending}").unlink(missing_ok=True)  # an out may be this very file
            new.with_suffix(f".{ending}").write_bytes(data)

    def some(self, *endings):
        kept = self.kept(*endings)
        return self.rng.sample(kept, max(1, len(kept) // 4)) if kept else []


CHANGES = (
    Checkout.other_bytes_of_the_same_size_and_time,
    Checkout.one_pixel_of_an_image,
    Checkout.two_images_that_change_places,
    Checkout.another_window_with_the_same_centre,
    Checkout.other_weights_under_the_same_path,
    Checkout.another_precision,
    Checkout.other_code_under_the_same_name,
    Checkout.other_code_in_a_module_beside_it,
)
HARMS = (
    Checkout.flipped_bits,
    Checkout.flipped_bits_in_place,
    Checkout.truncated_files,
    Checkout.deleted_files,
    Checkout.files_of_one_piece_under_the_name_of_another,
    Checkout.a_whole_piece_under_the_name_of_another,
)


def name(trick):
    return trick.__name__


@pytest.fixture
def rng():
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    log.warning("SEED=%d", seed)  # what pytest shows of a test that fails
    return random.Random(seed)


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in places.NAMES[1:]]


@pytest.fixture(params=["folder", *SLOW])
def checkout(request, tmp_path, rng, stages):
    with places.place(request.param, tmp_path) as place:
        yield Checkout(tmp_path, place, rng, stages)


@pytest.mark.slow
def test_each_change_is_seen_though_nothing_shows_it(checkout):
    before = checkout.result()
    assert before == checkout.truth()
    for change in checkout.rng.sample(CHANGES, len(CHANGES)):
        change(checkout)
        found = checkout.result()
        assert found["data/manifests/features.json"] != before["data/manifests/features.json"]
        differ = [key for key, data in checkout.truth().items() if found.get(key) != data]
        assert not differ, f"{name(change)}: {differ}"
        before = found


@pytest.mark.slow
def test_each_harm_to_the_store_is_seen_and_made_good(checkout):
    whole = checkout.result()
    for harm in checkout.rng.sample(HARMS, len(HARMS)):
        harm(checkout)
        shutil.rmtree(checkout.repo.path / "data")
        found = checkout.result()
        assert [key for key, data in whole.items() if found.get(key) != data] == [], name(harm)


@pytest.mark.slow
def test_what_is_damaged_is_said_and_kept_aside(checkout):
    whole = checkout.result()
    for path in checkout.kept(".parquet"):
        checkout.replace(path, path.read_bytes()[:-1] + b"?")
    shutil.rmtree(checkout.repo.path / "data")
    assert checkout.result() == whole
    assert "damaged; moved to damaged/, and will be made again" in checkout.said
    assert list((checkout.repo.path / ".quadrat/store/damaged").rglob("*.parquet"))


@pytest.mark.slow
def test_many_rounds_of_changes_and_harms(checkout):
    rng = checkout.rng
    for _ in range(50 if isinstance(checkout.place, places.Folder) else 15):
        tricks = [
            *rng.sample((*CHANGES, Checkout.another_batch), rng.randint(0, 2)),
            *rng.sample(HARMS, rng.randint(0, 2)),
        ]
        for trick in tricks:
            trick(checkout)
        if rng.random() < 0.5:
            shutil.rmtree(checkout.repo.path / "data", ignore_errors=True)
        found, wanted = checkout.result(), checkout.truth()
        assert found.keys() == wanted.keys()
        differ = [key for key, data in wanted.items() if found[key] != data]
        assert not differ, f"{differ} after {', '.join(map(name, tricks))}"
