"""What each stage works with: the params, the machine's settings, the store, and the run's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config.loader import Params
from pipeline.config.machine import Machine
from pipeline.storage import Storage, open_storage
from pipeline.store.objects import Store

Report = Callable[[int, str], None]
"""Called with the progress of a stage: a percentage and a sentence."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage's functions take.

    Attributes:
        params: params.yaml.
        machine: this machine's settings.
        store: where finished shards are kept.
        run: the name of this run; rows are counted as computed or reused by it.
    """

    params: Params
    machine: Machine
    store: Store
    run: str

    @property
    def bucket(self) -> Storage:
        """The bucket of images."""
        section = self.params.bucket
        return open_storage(
            section.url, digest_cache=self.machine.digests, follow_symlinks=section.follow_symlinks
        )


def open_store(machine: Machine) -> Store:
    """Open the store that *machine* names.

    Raises:
        SettingError: its address cannot be used.
    """
    return Store(open_storage(machine.store_url))
