"""Credentials wherever a user may have them, and then in nothing that a run writes or says."""

from __future__ import annotations

import base64
import html.parser
import http.server
import shutil
import urllib.parse

import pytest
from conftest import new_repo, textures
from faults import Proxy, Status
from PIL import Image
from servers import BUCKET, KEY, SECRET, answering, environment, rclone

CANARY = "canary/0123+456789=" + "x" * 21
"""Of a secret key's length and letters, so that its encoded forms differ from itself."""


def forms(secret):
    """A secret as it may be written: as it is, as JSON or a URL has it, as base64."""
    return {
        form.encode()
        for form in (secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret))
    } | {base64.b64encode(secret.encode())[:-4]}


def written(repo, *more):
    """All bytes below the clone and *more*, by file, without git's and the bucket's."""
    return {
        path: path.read_bytes()
        for folder in (repo.path, *more)
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_nowhere(secrets, repo, said, *more):
    files = written(repo, *more)
    for secret in secrets:
        for form in forms(secret):
            assert [str(path) for path, data in files.items() if form in data] == []
            assert form not in said.encode()


@pytest.mark.slow
def test_credentials_of_a_run_that_succeeds_and_of_one_that_fails_are_nowhere(tmp_path):
    """In the environment, in the AWS files and in a proxy's address; on S3, bucket and store."""
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws/credentials").write_text(
        f"[reef]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
        f"[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = {CANARY}1\n"
    )
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    shutil.copytree(repo.bucket.folder, tmp_path / "s3" / BUCKET / "in")
    secrets = [SECRET, f"{CANARY}1", f"{CANARY}2", f"{CANARY}3"]
    with rclone(tmp_path / "s3") as endpoint, Proxy(endpoint) as proxy:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert name not in repo.env
        repo.env |= environment(proxy.endpoint)
        del repo.env["AWS_ACCESS_KEY_ID"], repo.env["AWS_SECRET_ACCESS_KEY"]
        repo.env |= {
            "HOME": str(home),
            "AWS_PROFILE": "reef",
            "QUADRAT_STORE": f"s3://{BUCKET}/store",
            "GITHUB_TOKEN": f"{CANARY}2",
        }
        repo.set(bucket__url=f"s3://{BUCKET}/in")
        said = repo.said("dvc", "repro")
        assert_nowhere(secrets, repo, said, tmp_path / "s3")
        repo.env["AWS_SESSION_TOKEN"] = f"{CANARY}3"
        repo.env |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        said = ""
        for fault in (Status(403, "SignatureDoesNotMatch"), Status(400, "ExpiredToken"), None):
            proxy.rule = lambda method, path, number, fault=fault: fault
            if fault is None:
                repo.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
            done = repo.run("python", "-m", "stages.index", check=False)
            assert done.returncode == 4
            assert "Traceback" not in done.stderr
            said += done.stdout + done.stderr
        assert_nowhere(secrets, repo, said, tmp_path / "s3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "env"),
    [
        ({"bucket__url": f"s3://AKIA:{SECRET}@{BUCKET}/in"}, {}),
        ({"annotations__path": f"https://me:{SECRET}@example.org/points.csv"}, {}),
        ({"extract__weights": f"https://example.org/w.pt?X-Amz-Signature={SECRET}"}, {}),
        ({}, {"QUADRAT_STORE": f"s3://AKIA:{SECRET}@{BUCKET}/store"}),
    ],
    ids=["bucket", "annotations", "weights", "store"],
)
def test_credentials_in_an_address_stop_the_run_and_are_nowhere_else(repo, settings, env):
    repo.set(**settings)
    done = repo.run("python", "-m", "stages.index", check=False, **env)
    assert done.returncode == 2
    assert "the address holds a user name, password, token or signature" in done.stderr
    assert "Traceback" not in done.stderr
    (repo.path / "params.yaml").unlink()
    assert_nowhere([SECRET], repo, done.stdout + done.stderr)


@pytest.mark.slow
def test_a_web_server_that_quotes_the_address_is_not_quoted(repo):
    """Annotations from a server on loopback that fails with what it was asked, query and all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(500, f"asked for {self.path} by {dict(self.headers)}")

        def log_message(self, *args):
            pass

    with answering(Handler) as address:
        repo.set(annotations__path=f"{address}/points.csv?design={SECRET}")
        done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (repo.path / "params.yaml").unlink()
    assert_nowhere([SECRET], repo, done.stdout + done.stderr)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.slow
def test_html_in_labels_keys_groups_and_exif_is_text_in_the_report(tmp_path):
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    for number, path in enumerate(sorted(repo.bucket.folder.rglob("*.png"))):
        key = path.relative_to(repo.bucket.folder).as_posix()
        hostile = f"<img src=x onerror=alert({number})>\"'&amp;.png"
        exif = Image.Exif()
        exif[0x010E] = exif[0x010F] = exif[0x0131] = HOSTILE
        Image.open(path).save(path.with_name(hostile), exif=exif)
        path.unlink()
        for point in repo.bucket.points:
            if point["image"] == key:
                point["image"] = key.replace(path.name, hostile)
                point["label"] = f"{HOSTILE} {point['label']}"
    (repo.bucket.folder / f"plain/broken{HOSTILE.replace('/', '')}.png").write_bytes(b"none")
    repo.points()
    repo.run("dvc", "repro")
    page = (repo.path / "results/report.html").read_text(encoding="utf-8")
    tags = Tags(page).found
    kinds = [attrs.get("type", "code") for tag, attrs in tags if tag == "script"]
    assert kinds == ["application/json", "code"]  # the list of chips, and what shows it
    assert not [attrs for _, attrs in tags if any(name.startswith("on") for name in attrs)]
    assert {attrs.get("src", "data:")[:5] for tag, attrs in tags if tag == "img"} == {"data:"}
    assert "&lt;script&gt;alert(1)" in page
