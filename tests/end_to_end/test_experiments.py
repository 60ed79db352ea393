"""Experiments: temporary ones and queued ones share the original checkout's store."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_a_temporary_experiment_computes_no_feature_again(copy_of_done):
    repo = copy_of_done()
    repo.said("dvc", "repro")
    repo.said("git", "add", "-A")
    repo.said("git", "commit", "-qm", "done")
    said = repo.said("dvc", "exp", "run", "--temp", "-S", "train.epochs=3")
    assert "extract: 144 chips, 144 computed" not in said
    assert "classifier trained" in said
    assert "epochs" in repo.said("dvc", "exp", "show", "--csv")


@pytest.mark.slow
def test_a_queued_sweep_runs_and_shows_every_result(copy_of_done):
    repo = copy_of_done()
    repo.said("dvc", "repro")
    repo.said("git", "add", "-A")
    repo.said("git", "commit", "-qm", "done")
    repo.said("dvc", "exp", "run", "--queue", "-S", "train.learning_rate=1e-3,1e-4")
    repo.said("dvc", "queue", "start", "-j", "2")
    import time

    deadline = time.monotonic() + 300
    status = ""
    while time.monotonic() < deadline and status.count("Success") < 2:
        time.sleep(3)
        status = repo.said("dvc", "queue", "status")
        assert "Failed" not in status, repo.said("dvc", "queue", "logs", "-f")
    assert status.count("Success") == 2
    shown = repo.said("dvc", "exp", "show", "--csv")
    assert "0.0001" in shown
    assert "0.001" in shown
