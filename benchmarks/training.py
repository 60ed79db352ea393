"""Training: scores, time and memory against scikit-learn's and PySpacer's.

Features are synthetic (classes of several modes and unequal sizes, after a ReLU as in a network),
or those of a finished repository. Quadrat is the whole command `python -m stages.train`: start-up,
reading, every epoch, calibration. scikit-learn is its `partial_fit` loop alone, with the rows in
memory, at PySpacer's batch of 200 and PySpacer's settings. PySpacer runs its training task on its
feature files.

    python benchmarks/training.py [--labels 50000] [--seeds 3] [--kinds mlp lr]
                                  [--features REPOSITORY] [--spacer-python PATH]
                                  [--without-peer] [--only-ours]
                                  [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _shared import ROOT, about, peer, write_manifest
from numpy.typing import NDArray
from ruamel.yaml import YAML
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.neural_network import MLPClassifier

from pipeline.config.loader import load
from pipeline.core import schemas
from pipeline.core.hashing import digest
from pipeline.store import outputs, tables
from pipeline.train import labelled_features, model

CLASSES, LATENT, MODES = 30, 48, 3
WRONG = 0.05
"""Share of labels that are drawn at random."""

SHARD_ROWS = 50_000
BATCH, EPOCHS = 200, 10
VALIDATION = 10_000
KINDS = ("mlp", "lr")

THEIRS = """
import json, sys, time
from pathlib import Path
import numpy as np
from spacer.data_classes import DataLocation, ImageFeatures, ImageLabels, PointFeatures
from spacer.messages import TrainClassifierMsg, TrainingTaskLabels
from spacer.tasks import train_classifier

folder, points, epochs = Path(sys.argv[1]), 25, int(sys.argv[2])
def place(name):
    return DataLocation("filesystem", str(folder / name))
labels = {}
for split in ("train", "ref", "val"):
    found = np.load(folder / f"{split}.npz")
    x, y = np.load(folder / f"{split}.npy", mmap_mode="r"), found["y"].tolist()
    labels[split] = ImageLabels()
    for start in range(0, len(y) - len(y) % points, points):
        rows = [PointFeatures(row=n, col=n, data=x[start + n]) for n in range(points)]
        features = ImageFeatures(point_features=rows, valid_rowcol=True, feature_dim=x.shape[1],
                                 npoints=points)
        features.store(place(f"{split}{start}.featurevector"))
        labels[split].add_image(place(f"{split}{start}.featurevector"),
                                [(n, n, y[start + n]) for n in range(points)])
seconds = {}
for kind in sys.argv[3:]:
    started = time.perf_counter()
    said = train_classifier(TrainClassifierMsg(
        job_token="", trainer="minibatch", nbr_epochs=epochs, clf_type=kind.upper(),
        labels=TrainingTaskLabels(**labels), previous_model_locs=[],
        model_loc=place("model"), valresult_loc=place("valresult")))
    seconds[kind] = [time.perf_counter() - started, said.acc]
print(json.dumps(seconds))
"""


@dataclass
class Split:
    """Rows of one split, in memory."""

    x: NDArray[np.float32]
    y: NDArray[Any]


def made_up(folder: Path, count: int, dim: int, store: str) -> None:
    """Write the outs that training starts from: *count* training chips, and the others."""
    held = min(max(count // 10, 2000), 20_000)
    total = count + held + VALIDATION
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (CLASSES, MODES, LATENT))
    mix = rng.normal(0, LATENT**-0.5, (LATENT, dim)).astype(np.float32)
    shares = (1 + np.arange(CLASSES)) ** -0.7
    splits = np.repeat(["train", "calibration", "validation"], [count, held, VALIDATION])
    splits = splits[rng.permutation(total)]
    features = folder / "data/features"
    features.mkdir(parents=True)
    lines, labels = [], []
    for shard, start in enumerate(range(0, total, SHARD_ROWS)):
        rows = min(SHARD_ROWS, total - start)
        own = np.random.default_rng([1, shard])
        y = own.choice(CLASSES, rows, p=shares / shares.sum())
        latent = centres[y, own.integers(0, MODES, rows)] + own.normal(0, 0.9, (rows, LATENT))
        x = np.maximum(latent.astype(np.float32) @ mix + 0.3, 0)
        x += own.random((rows, dim), np.float32) * np.float32(0.2)
        y = np.where(own.random(rows) < WRONG, own.integers(0, CLASSES, rows), y)
        ids = [n.to_bytes(16, "big") for n in range(start, start + rows)]
        common = {
            "chip_id": pa.array(ids, schemas.CHIP_ID),
            "key": [f"{n // 25:08d}.jpg" for n in range(start, start + rows)],
            "row": pa.array(np.arange(rows), pa.int32()),
            "col": pa.array(np.arange(rows), pa.int32()),
            "decoder_warning": pa.nulls(rows, pa.string()),
        }
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.astype(store).ravel()), dim)
        schema = schemas.features(dim, store)
        table = pa.table({**common, "feature": vectors}).select(schema.names).cast(schema)
        with schemas.writer(table.schema, features / f"{shard:04d}.parquet") as stream:
            stream.write_table(table, row_group_size=schemas.ROW_GROUP_ROWS)
        name = f"{count}-{shard}"
        lines.append({"shard": shard, "rows": rows, "sha256": name, "input": name})
        said = {
            "label": [f"class {number:02d}" for number in y],
            "group": common["key"],
            "split": splits[start : start + rows],
        }
        labels.append(
            pa.table({**common, **said}).select(schemas.LABELS.names).cast(schemas.LABELS)
        )
    manifest = {"stage": "extract", "recipe": "made up", "made_by": {}, "shards": lines}
    write_manifest(folder, outputs.FEATURES, manifest)
    (folder / "data/labels").mkdir()
    pq.write_table(pa.concat_tables(labels), folder / "data/labels/labels.parquet")
    labelled = {"stage": "chip", "labels": digest([count, dim, store])}
    write_manifest(folder, outputs.LABELS, labelled)


class Bench:
    """One folder of features, and the classifiers trained on them."""

    def __init__(self, folder: Path, changes: dict[str, Any]) -> None:
        self.folder, self.changes = folder, changes
        for name in ("params.yaml", "luigi.cfg"):
            shutil.copy(ROOT / name, folder / name)

    def read(self, *names: str) -> list[Split]:
        """Read splits into memory."""
        os.chdir(self.folder)
        found = []
        for part in labelled_features.of_splits(tables.labels(), *names):
            x = np.empty((part.labels.num_rows, part.dim), np.float32)
            for number, block in enumerate(part.blocks):
                x[block.at] = part.read(number)
            found.append(Split(x, np.array(part.labels["label"].to_pylist())))
        return found

    def ours(self, **settings: Any) -> tuple[float, float, Any]:
        """Run the train stage from scratch; return seconds, peak in GiB, and the classifier."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        params = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["train"].update({**settings, **self.changes})
        with path.open("w", encoding="utf-8") as stream:
            yaml.dump(params, stream)
        load(path)
        store = self.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(self.folder / "models", ignore_errors=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "QUADRAT_STORE": str(store)}
        command = [sys.executable, "-m", "stages.train"]
        started = time.perf_counter()
        run = subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        said = run.stderr.read() if run.stderr else b""
        _, status, usage = os.wait4(run.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            raise SystemExit(said.decode())
        return seconds, usage.ru_maxrss / 2**20, model.read(self.folder / "models/classifier")


def partial_fit(kind: str, train: Split, held: Split, seed: int) -> tuple[float, Any]:
    """Train as PySpacer 0.14 does; return the seconds of the loop, and the calibrated model."""
    large = len(train.y) >= 50_000  # noqa: PLR2004 PySpacer's bound
    other: Any = SGDClassifier(loss="log_loss", average=True, random_state=seed)
    if kind == "mlp":
        sizes, rate = ((200, 100), 1e-4) if large else ((100,), 1e-3)
        other = MLPClassifier(hidden_layer_sizes=sizes, learning_rate_init=rate, random_state=seed)
    classes, y = np.unique(train.y, return_inverse=True)
    started = time.perf_counter()
    for epoch in range(EPOCHS):
        order = np.random.default_rng([seed, epoch]).permutation(len(y))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            other.partial_fit(train.x[some], y[some], classes=range(len(classes)))
    seconds = time.perf_counter() - started
    known = np.isin(held.y, classes)
    held_y = np.searchsorted(classes, held.y[known])
    return seconds, CalibratedClassifierCV(FrozenEstimator(other)).fit(held.x[known], held_y)


def accuracy_and_loss(classifier: Any, classes: Any, test: Split) -> tuple[float, float]:
    """Return balanced accuracy and log loss on *test*."""
    scores = classifier.predict_proba(test.x)
    found = np.asarray(classes)[scores.argmax(axis=1)]
    known = np.isin(test.y, classes)
    loss = log_loss(test.y[known], scores[known], labels=list(classes))
    return balanced_accuracy_score(test.y[known], found[known]), float(loss)


def told(
    name: str, seconds: list[float], scores: list[tuple[float, float]], more: str = ""
) -> None:
    """Print one line of the table."""
    balanced, losses = np.array(scores).T
    print(
        f"{name:34} {np.median(seconds):8.1f} s   {balanced.mean():.4f} ± {balanced.std():.4f}"
        f"   {losses.mean():.4f} ± {losses.std():.4f} {more}",
        flush=True,
    )


def theirs(
    bench: Bench, python: Path, splits: list[Split], kinds: list[str]
) -> dict[str, tuple[float, float]]:
    """Train with PySpacer on the same rows; return seconds and accuracy by kind."""
    for name, split in zip(("train", "ref", "val"), splits, strict=True):
        rows = slice(5000) if name == "ref" else slice(None)  # its maximum
        np.save(bench.folder / f"{name}.npy", split.x[rows])
        np.savez(bench.folder / f"{name}.npz", y=split.y[rows])
    command = [str(python), "-W", "ignore", "-c", THEIRS, str(bench.folder), str(EPOCHS), *kinds]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, tuple[float, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--labels", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--store", choices=["float32", "float16"], default="float32")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--features", type=Path, help="a repository in which dvc repro has run")
    parser.add_argument("--spacer-python", type=Path)
    parser.add_argument("--without-peer", action="store_true", help="without PySpacer")
    parser.add_argument("--only-ours", action="store_true", help="Quadrat alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of train")
    return parser.parse_args()


def main() -> int:
    """Train, print the table; return 1 if Quadrat is slower or worse than scikit-learn."""
    asked = options()
    about("scikit-learn", "torch")
    yaml = YAML(typ="safe")
    changes = {k: yaml.load(v) for k, _, v in (word.partition("=") for word in asked.set)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if asked.features:
            shutil.copytree(asked.features / "data", folder / "data")
        else:
            made_up(folder, asked.labels, asked.dim, asked.store)
        bench = Bench(folder, changes)
        print(f"{'':34} {'':8}     balanced accuracy   log loss")
        if asked.only_ours:
            seconds, peak, classifier = bench.ours()
            (test,) = bench.read("validation")
            more = f"  peak {peak:.2f} GiB, {classifier.card['epochs']} epochs"
            told(
                f"{classifier.card['n_train']:,} labels",
                [seconds],
                [accuracy_and_loss(classifier, classifier.classes, test)],
                more,
            )
            return 0
        return compared(bench, asked)


def compared(bench: Bench, asked: argparse.Namespace) -> int:
    """Compare Quadrat with scikit-learn, and with PySpacer."""
    train, held, test = bench.read("train", "calibration", "validation")
    print(
        f"{len(train.y):,} labels of {train.x.shape[1]:,} values, {len(np.unique(train.y))} classes"
    )
    wrong, quickest = False, {}
    for kind in asked.kinds:
        rates: dict[str, list[float]] = {}
        found: dict[str, list[tuple[float, float]]] = {}
        for seed in range(asked.seeds):
            seconds, other = partial_fit(kind, train, held, seed)
            rates.setdefault("partial_fit", []).append(seconds)
            found.setdefault("partial_fit", []).append(
                accuracy_and_loss(other, np.unique(train.y), test)
            )
            plain = {"classifier": kind, "seed": seed}
            same = {**plain, "batch": BATCH, "epochs": EPOCHS}
            for name, settings in {
                "same": same,
                "own": plain,
                "bf16": {**plain, "precision": "bf16"},
            }.items():
                seconds, _, mine = bench.ours(**settings)
                rates.setdefault(name, []).append(seconds)
                found.setdefault(name, []).append(accuracy_and_loss(mine, mine.classes, test))
        times = {name: float(np.median(some)) for name, some in rates.items()}
        told(f"{kind}: scikit-learn's loop", rates["partial_fit"], found["partial_fit"])
        for name, words in {"same": "batch of 200", "own": "as shipped", "bf16": "bf16"}.items():
            ratio = f"{times['partial_fit'] / times[name]:6.2f} times as fast"
            told(f"{kind}: Quadrat, {words}", rates[name], found[name], ratio)
        theirs_, ours_ = (np.array(found[name]) for name in ("partial_fit", "own"))
        spread = np.ptp(theirs_[:, 0]) if len(theirs_) > 1 else 0.0
        wrong |= bool(ours_[:, 0].mean() < theirs_[:, 0].mean() - spread)
        wrong |= bool(ours_[:, 1].mean() > theirs_[:, 1].mean() + np.ptp(theirs_[:, 1]))
        quickest[kind] = times["own"]
    if not asked.without_peer:
        python = peer(asked.spacer_python, bench.folder)
        for kind, (seconds, accuracy) in theirs(
            bench, python, [train, held, test], asked.kinds
        ).items():
            times_as_fast = seconds / quickest[kind]
            print(
                f"{kind}: PySpacer {seconds:,.1f} s (accuracy {accuracy:.4f}); Quadrat as shipped: "
                f"{times_as_fast:.1f} times as fast"
            )
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
