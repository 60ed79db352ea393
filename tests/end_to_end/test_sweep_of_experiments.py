"""A sweep with DVC experiments, what its best is worth, and the report that says so."""

import json

import pytest


@pytest.mark.slow
def test_the_best_experiment_is_corrected_and_the_report_says_so(copy_of_done):
    repo = copy_of_done()
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "baseline")
    missing = repo.run("python", "-m", "stages.sweep", check=False)
    assert missing.returncode
    assert "has no finished experiment" in missing.stderr
    for epochs in (1, 3):
        repo.run("dvc", "exp", "run", "-S", f"train.epochs={epochs}")
    said = repo.run("python", "-m", "stages.sweep").stdout
    found = json.loads((repo.path / "sweep.json").read_text())
    assert len(found["values"]) == 2
    for name, value in found["values"]:
        assert f"{name:<24} accuracy {value:.4f}" in said
        repo.run("dvc", "exp", "apply", name)
        metrics = json.loads((repo.path / "results/metrics.json").read_text())
        assert metrics["accuracy"] == pytest.approx(value, abs=1e-6)
    assert "of 2 experiments" in said
    repo.set(validate__sweep="sweep.json")
    repo.run("dvc", "repro")
    assert "The settings were chosen by a sweep." in (repo.path / "results/report.html").read_text()
