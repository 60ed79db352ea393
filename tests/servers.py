"""Real S3 servers on loopback, for as long as a test needs them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def _running(command: list[str], port: int) -> Iterator[str]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
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


SERVERS = {"rclone": rclone, "moto": moto}
