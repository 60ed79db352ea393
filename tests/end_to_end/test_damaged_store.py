"""A store whose files are damaged: the same run makes the pieces again, whatever is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from stage_counts import stage_counts

from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core.errors import TransientError
from pipeline.store.context import Context, open_store
from pipeline.store.objects import Piece
from pipeline.train import stage as train
from pipeline.validate import stage as validate

HARMS = {
    "truncate": lambda data: data[: len(data) // 2],
    "zero": lambda data: bytes(len(data)),
    "delete": lambda data: None,
    "garbage": lambda data: b"\x9b garbage" + data,
}
OUTS = ("data", "models", "results", "dvclive")


def harm(path, how):
    data = HARMS[how](path.read_bytes())
    path.unlink()  # an out may be the same file by a hard link
    if data is not None:
        path.write_bytes(data)


def files_of(store, table):
    """Give the one piece of *table* and all of its files."""
    keys = [item.key for item in store.storage.list(f"{table}/")]
    (piece,) = {Piece.of_key(key)[0] for key in keys}
    return piece, [Path(store.storage.root) / key for key in keys]


@pytest.mark.parametrize(("stage", "out"), [(train, "models"), (validate, "results")])
def test_any_damage_to_any_file_of_a_whole_piece_has_it_made_again(
    copy_of_done, monkeypatch, stage, out
):
    """`publish` raises what Luigi tries again, and nothing counts as finished after it."""
    repo = copy_of_done()
    monkeypatch.chdir(repo.path)
    context = Context(load("params.yaml"), machine(), open_store(machine()), "test")
    piece, files = files_of(context.store, stage.TABLE)
    assert len(files) > 3
    whole = {path: path.read_bytes() for path in files}
    for path in files:
        for how in HARMS:
            shutil.rmtree(repo.path / out, ignore_errors=True)
            harm(path, how)
            with pytest.raises(TransientError, match="will be made again"):
                stage.publish(context, piece, {"stage": "test"})
            assert not context.store.has(piece), (path, how)
            for name, data in whole.items():
                name.write_bytes(data)
    stage.publish(context, piece, {"stage": "test"})


@pytest.mark.slow
def test_one_run_makes_every_kind_of_damaged_piece_again(copy_of_done, done_repo):
    repo = copy_of_done()
    config = (repo.path / "luigi.cfg").read_text()
    (repo.path / "luigi.cfg").write_text(config.replace("retry_delay = 5", "retry_delay = 0"))
    store = repo.path / ".quadrat/store"
    records = [path for path in store.glob("*/*/*/*.json") if path.name.count(".") == 1]
    how = list(HARMS)
    for number, record in enumerate(sorted(records)):
        files = sorted(record.parent.glob(f"{record.stem}.*"))
        for path in files:
            if path != record or number % 2:
                harm(path, how[number % len(how)])
    for name in OUTS:
        shutil.rmtree(repo.path / name)
    done = repo.run("dvc", "repro", "--force")
    assert "will be made again" in done.stderr
    counts = {line["stage"]: line for line in stage_counts(done.stderr)}
    assert set(counts) == {"index", "chip", "extract", "train", "validate"}
    assert all(line["computed"] == line["rows"] > 0 for line in counts.values())
    assert repo.digests(*OUTS) == done_repo.digests(*OUTS)
