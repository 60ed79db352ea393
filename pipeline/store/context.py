"""What the work of every stage is given: params, the machine, the store, the folders of outs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.loader import Params
from pipeline.config.machine import Machine
from pipeline.storage import Storage, open_storage
from pipeline.store.objects import Store

INDEX = Path("data/index")
CHIPS = Path("data/chips")
LABELS = Path("data/labels")
FEATURES = Path("data/features")
CLASSIFIER = Path("models/classifier")
RESULTS = Path("results")

Tell = Callable[[int, str], None]
"""Told of progress: a percentage and a sentence."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that a stage's work needs from outside.

    Attributes:
        params: params.yaml.
        machine: this machine's settings.
        store: where finished work is kept.
        run: the name of this run, in which computed rows are counted.
    """

    params: Params
    machine: Machine
    store: Store
    run: str


def context(params: Params, machine: Machine, run: str) -> Context:
    """Open the store that *machine* names.

    Raises:
        SettingError: it cannot be a store.
    """
    return Context(params, machine, store(machine.store_url), run)


def bucket(context: Context) -> Storage:
    """Open the bucket of images."""
    section = context.params.bucket
    return open_storage(
        section.url, digest_cache=context.machine.digests, follow_symlinks=section.follow_symlinks
    )


def store(url: str) -> Store:
    """Open the store at *url*."""
    return Store(open_storage(url))
