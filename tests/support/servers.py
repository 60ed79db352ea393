"""Real S3 servers and a scheduler on loopback, for as long as a test needs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from botocore.config import Config

KEY, SECRET = "quadrat-test-access-key", "quadrat-test-secret-key"
BUCKET = "images"


def environment(endpoint: str) -> dict[str, str]:
    """What a user sets to reach the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(endpoint: str):
    """A plain boto3 client, as another program would have."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(address: str, port: int) -> None:
    """Wait until a server listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{address}:{port}: no server answers") from error
            time.sleep(0.05)
        else:
            return


@contextmanager
def _running(command: list[str], port: int) -> Iterator[str]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for("127.0.0.1", port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """`rclone serve s3` over *folder*, whose folders are buckets."""
    port = _free_port()
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    command = [
        str(Path(sys.executable).parent / "rclone"),
        "serve",
        "s3",
        str(folder),
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{KEY},{SECRET}",
        "--vfs-cache-mode",
        "off",
    ]
    with _running(command, port) as endpoint:
        yield endpoint


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """moto's server, with an empty bucket."""
    port = _free_port()
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port) as endpoint:
        client(endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server whose answers are a test's own; it says nothing of those that break off."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    running.handle_error = lambda *_: None
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


SERVERS = {"rclone": rclone, "moto": moto}


class Luigid:
    """A central scheduler on loopback, to be killed and begun again at will."""

    def __init__(self, folder: Path, port: int | None, address: str, config: Path | None):
        self.folder, self.address, self.port = folder, address, port or _free_port()
        self.env = os.environ | ({"LUIGI_CONFIG_PATH": str(config)} if config else {})

    def begin(self) -> None:
        """Start it, with the state that it has kept."""
        command = [str(Path(sys.executable).parent / "luigid"), "--address", self.address]
        command += ["--port", str(self.port), "--state-path", str(self.folder / "state.pickle")]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self.address, self.port)

    def kill(self) -> None:
        """Kill it: it keeps no state then but what it had written before."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Kill it, if it still runs, and begin it again at the same port."""
        self.kill()
        self.begin()

    def tasks(self, status: str) -> dict:
        """Give what it knows of tasks with *status*."""
        ask = urllib.parse.quote(json.dumps({"status": status, "upstream_status": ""}))
        url = f"http://{self.address}:{self.port}/api/task_list?data={ask}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["response"]


@contextmanager
def luigid(
    folder: Path,
    port: int | None = None,
    address: str = "127.0.0.1",
    config: Path | None = None,
) -> Iterator[Luigid]:
    """A luigid in *folder*, for as long as a test needs it."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Luigid(folder, port, address, config)
    try:
        server.begin()
        yield server
    finally:
        server.kill()
