"""The learning curve in DVCLive's files: complete after every epoch, and of this training only."""

import json

import pytest

from pipeline.core.errors import StorageError
from pipeline.train import dvclive

KEYS = ("train_loss", "train_accuracy", "calibration_loss", "calibration_accuracy")


def epochs(count, *, held=True):
    rows = [dict.fromkeys(KEYS, 0.5 + number) for number in range(count)]
    nothing = {} if held else {"calibration_loss": None, "calibration_accuracy": None}
    return [{**row, **nothing, "epoch": number + 1} for number, row in enumerate(rows)]


def text(name):
    return (dvclive.FOLDER / "plots/metrics" / name).read_text()


def test_each_epoch_adds_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for count in (1, 2, 3):
        files = dvclive.write(epochs(count))
        assert all(path.is_file() for path in files)
        assert text("train/loss.tsv") == "step\tloss\n0\t0.5\n1\t1.5\n2\t2.5\n"[: 10 + 6 * count]
        metrics = json.loads((dvclive.FOLDER / "metrics.json").read_text())
        assert metrics["step"] == count - 1
        assert metrics["calibration"] == {"loss": count - 0.5, "accuracy": count - 0.5}


def test_a_shorter_training_deletes_the_files_of_a_longer_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dvclive.write(epochs(5))
    dvclive.write(epochs(2, held=False))
    files = sorted(p.relative_to(dvclive.FOLDER).as_posix() for p in dvclive.FOLDER.rglob("*.*"))
    assert files == [
        "metrics.json",
        "plots/metrics/train/accuracy.tsv",
        "plots/metrics/train/loss.tsv",
    ]
    assert text("train/accuracy.tsv").count("\n") == 3
    assert "calibration" not in json.loads((dvclive.FOLDER / "metrics.json").read_text())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvclive").write_text("in the way")
    with pytest.raises(StorageError, match="dvclive: cannot be written"):
        dvclive.write(epochs(1))
