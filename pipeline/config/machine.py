"""Settings of this machine: where the store is, how many workers, which device.

They change how long a run takes and never its results, so they are not in params.yaml. Each is an
environment variable `QUADRAT_<NAME>`, or else a line under `[quadrat]` in luigi.cfg.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from pipeline.core import hardware
from pipeline.core.errors import SettingError
from pipeline.core.urls import holds_credentials

DEVICES = ("auto", "cpu", "cuda", "mps")
YES = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine's settings, as text; an empty text is not set."""

    store: str = ""
    device: str = "auto"
    workers: str = "auto"
    anonymous: str = "false"
    requester_pays: str = "false"
    endpoint: str = ""
    weights_mirror: str = ""
    isolate_decoding: str = "false"
    verbose: str = "false"

    @property
    def root(self) -> Path:
        """The repository with the machine's files; in an experiment of DVC the original one."""
        return Path(os.environ.get("DVC_ROOT", ".")).absolute()

    @property
    def state(self) -> Path:
        """The folder of digests of files, downloaded weights and the run log."""
        return self.root / ".quadrat"

    @property
    def store_url(self) -> str:
        """Where finished shards are kept: by default in the repository, beside `.dvc`."""
        return self.store or str(self.state / "store")

    @property
    def digests(self) -> Path:
        """The database of content digests of files in folders."""
        return self.state / "digests.sqlite"

    @property
    def weights(self) -> Path:
        """The folder of downloaded weights."""
        return self.state / "weights"

    @property
    def runs(self) -> Path:
        """The run log: the counts of every run's stages, one JSON object in a line."""
        return self.state / "runs.jsonl"

    @property
    def is_anonymous(self) -> bool:
        """Whether S3 is read without credentials."""
        return self.anonymous.lower() in YES

    @property
    def pays_for_requests(self) -> bool:
        """Whether requests to S3 say that the requester pays for them."""
        return self.requester_pays.lower() in YES

    @property
    def is_verbose(self) -> bool:
        """Whether Luigi's own summary is shown."""
        return self.verbose.lower() in YES

    def processes(self, *, embeds: bool = True) -> int:
        """Return the number of worker processes: as many as the cores or the device can use."""
        if self.workers != "auto":
            return int(self.workers)
        return hardware.processes(hardware.device(self.device) if embeds else "cpu")

    @property
    def isolates_decoding(self) -> bool:
        """Whether images are decoded in separate processes from the start."""
        return self.isolate_decoding.lower() in YES


def machine(environ: Mapping[str, str] = os.environ) -> Machine:
    """Read the machine's settings from *environ* and luigi.cfg.

    Raises:
        SettingError: a setting is unknown or its value cannot be used.
    """
    path = Path(environ.get("LUIGI_CONFIG_PATH", "luigi.cfg"))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([Path("luigi.cfg"), path], encoding="utf-8")  # the second overrides the first
    except configparser.Error as error:
        raise SettingError(f"{path}: cannot be read: {error}") from error
    section = dict(parser["quadrat"]) if parser.has_section("quadrat") else {}
    names = [field.name for field in fields(Machine)]
    for name in section:
        if name not in names:
            listed = ", ".join(names)
            raise SettingError(f"{path}: [quadrat] {name}: not a setting; it can be {listed}")
    values = {name: environ.get(f"QUADRAT_{name.upper()}", section.get(name, "")) for name in names}
    settings = Machine(**{name: value for name, value in values.items() if value})
    for name in ("store", "endpoint", "weights_mirror"):
        if holds_credentials(getattr(settings, name)):
            raise SettingError(
                f"{path}: {name}: the address holds a user name, password, token or signature; "
                "take it out, and set AWS_PROFILE or AWS_ACCESS_KEY_ID instead"
            )
    if settings.is_anonymous and settings.pays_for_requests:
        raise SettingError(
            f"{path}: requester_pays: nobody can be charged for anonymous requests; set anonymous "
            "to false"
        )
    if settings.device not in DEVICES:
        raise SettingError(f"{path}: device: no {settings.device!r} among {', '.join(DEVICES)}")
    if settings.workers != "auto" and not (settings.workers.isdigit() and int(settings.workers)):
        raise SettingError(f"{path}: workers: {settings.workers!r} is not 'auto' or 1 or more")
    return settings
