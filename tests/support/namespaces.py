"""Several hosts on one machine: network namespaces on a bridge, each with its own address."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache

import psutil

NETWORKS = range(256)
"""10.77.N.0/24, a bridge each: several test runs may have hosts at once."""


@dataclass(frozen=True)
class Host:
    """One host, and where it finds what listens on the machine that all of them are on."""

    name: str
    address: str
    machine: str

    def command(self, argv: list[str]) -> list[str]:
        """What to run so that *argv* runs on this host; the process is *argv*'s own."""
        return ["ip", "netns", "exec", self.name, *argv]


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Hosts that reach each other and this machine, and nothing else.

    At the end they are gone, with every process that still runs on them.
    """
    with ExitStack() as undo:
        network, bridge = _bridge(undo)
        _ip("address", "add", f"10.77.{network}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield [_host(undo, network, bridge, number) for number in range(1, count + 1)]


@cache
def why_not() -> str | None:
    """Say why this machine can have no hosts; None if it can."""
    if shutil.which("ip") is None:
        return "there is no `ip` here; install iproute2"
    if os.geteuid():
        return "only root can make network namespaces"
    try:
        with hosts(1) as (host,):
            subprocess.run(host.command(["true"]), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine permits no network namespaces: {error}"
    return None


def _bridge(undo: ExitStack) -> tuple[int, str]:
    """Make a bridge under the first name that is free: making it is what reserves its network."""
    for network in NETWORKS:
        bridge = f"quadrat{network}"
        try:
            _ip("link", "add", bridge, "type", "bridge")
        except FileExistsError:
            continue
        undo.callback(_ip, "link", "delete", bridge)
        return network, bridge
    raise OSError(f"all {len(NETWORKS)} networks are taken; see `ip link`, `ip netns`")


def _host(undo: ExitStack, network: int, bridge: str, number: int) -> Host:
    """Make one namespace and plug it into the bridge."""
    host = Host(f"{bridge}-{number}", f"10.77.{network}.{number}", f"10.77.{network}.254")
    plug = host.name
    _ip("netns", "add", host.name)
    undo.callback(_ip, "netns", "delete", host.name)
    _ip("link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    undo.callback(_ip, "link", "delete", plug)
    undo.callback(_kill_all, host)
    _ip("link", "set", plug, "master", bridge, "up")
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.name, "link", "set", "eth0", "up")
    _ip("-n", host.name, "link", "set", "lo", "up")
    return host


def _kill_all(host: Host) -> None:
    """Kill what runs on *host*: its processes would keep the namespace."""
    deadline = time.monotonic() + 10
    while pids := _pids(host):
        if time.monotonic() > deadline:
            raise OSError(f"{host.name}: processes {sorted(pids)} do not end")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _pids(host: Host) -> set[int]:
    """What runs on *host*, and what is about to: `ip` takes a moment to enter."""
    begun = host.command([])
    entering = {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[: len(begun)] == begun
    }
    return entering | set(map(int, _ip("netns", "pids", host.name).split()))


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip()
        kind = FileExistsError if "File exists" in said else OSError
        raise kind(f"ip {' '.join(words)}: {said}")
    return done.stdout
