"""Fetch what the experiments of a sweep predicted: DVC lists them and has their outs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from pipeline.core.errors import InputError
from pipeline.validate.baselines import dvc_get, last_line
from pipeline.validate.sweep import Predicted

PREDICTIONS = "results/predictions.parquet"
CARD = "models/classifier/model.json"
FETCHERS = 4


def listed(baseline: str) -> dict[str, str]:
    """Return the name of each finished experiment on *baseline* (a git revision), and its commit.

    Raises:
        InputError: DVC cannot list them.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--rev", baseline]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc exp show: {last_line(done.stderr)}")
    found = {}
    for commit in json.loads(done.stdout):
        for experiment in commit.get("experiments") or []:
            last = experiment["revs"][0]
            outs = (last.get("data") or {}).get("outs") or {}
            if outs.get(PREDICTIONS, {}).get("hash"):
                found[str(experiment["name"] or last["rev"][:7])] = str(last["rev"])
    return found


def read(revisions: Mapping[str, str]) -> dict[str, Predicted]:
    """Fetch what each experiment predicted, from DVC's cache or remote.

    Raises:
        InputError: DVC cannot fetch it.
    """
    with TemporaryDirectory() as folder, ThreadPoolExecutor(FETCHERS) as pool:

        def fetch(name: str) -> Predicted:
            table = pq.read_table(_fetch(PREDICTIONS, name, revisions[name], Path(folder)))
            card = json.loads(_fetch(CARD, name, revisions[name], Path(folder)).read_bytes())
            return Predicted(table, card["classes"], card.get("label_separator"))

        return dict(zip(revisions, pool.map(fetch, revisions), strict=True))


def _fetch(path: str, name: str, revision: str, folder: Path) -> Path:
    target = folder / f"{revision}-{Path(path).name}"
    if why := dvc_get(path, revision, target):
        raise InputError(f"dvc get: {path} of {name}: {why}")
    return target
