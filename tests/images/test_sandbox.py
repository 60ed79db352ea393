"""The sandbox: a decoder that crashes, hangs or prints affects nothing but its own image."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime

import deadly
import numpy as np
import psutil
import pytest
from image_files import EXTRACT, RGB, encoded, exif_of
from PIL import Image

from pipeline.config.sections import BucketParams
from pipeline.core.errors import InputError, Missing, Rejected
from pipeline.core.rejects import message
from pipeline.images.decode import decode_image
from pipeline.images.header import read_header
from pipeline.images.sandbox import DecoderSandbox
from pipeline.storage import Object, open_storage


@pytest.fixture(scope="module")
def armed(tmp_path_factory):
    """Make the processes that are started here crash or hang on deadly images."""
    folder = deadly.arm(tmp_path_factory.mktemp("armed"))
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def sandbox(armed):
    """A sandbox with a time limit of one second."""
    with closing(DecoderSandbox(limit_s=1)) as sandbox:
        yield sandbox


def child_pids():
    return {child.pid for child in psutil.Process().children()}


def test_pixels_are_those_decoded_in_this_process(sandbox):
    for kind in ("JPEG", "PNG", "TIFF"):
        data = encoded(Image.fromarray(RGB), kind)
        want = decode_image(data, EXTRACT)
        got = sandbox.decode(data, EXTRACT, "a.jpg").pixels
        assert np.array_equal(got, want)
        assert (got.dtype, got.flags.c_contiguous) == (np.uint8, True)


def test_a_header_is_the_one_read_in_this_process(sandbox, tmp_path):
    exif = exif_of(t274=6, t306="2010:01:02 03:04:05")
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    storage = open_storage(str(tmp_path))
    item = storage.head("a.jpg")
    got = sandbox.read_header(BucketParams(url=str(tmp_path)), tmp_path / "memory", item, 10**9)
    assert got == read_header(storage, item, max_pixels=10**9)
    assert got["captured_at"] == datetime(2010, 1, 2, 3, 4, 5)


def test_a_reject_is_the_one_raised_in_this_process(sandbox):
    with pytest.raises(Rejected) as here:
        decode_image(b"no image", EXTRACT)
    with pytest.raises(Rejected) as there:
        sandbox.decode(b"no image", EXTRACT, "a.jpg")
    assert there.value.args == here.value.args


def test_a_storage_error_stays_one(sandbox, tmp_path):
    with pytest.raises(Missing, match="no such file"):
        sandbox.read_header(
            BucketParams(url=str(tmp_path)), tmp_path / "memory", Object("gone.jpg", 9, "v"), 10**9
        )


def test_a_decoder_that_crashes_is_a_reject_and_the_next_image_is_read(sandbox):
    with pytest.raises(Rejected) as stop:
        sandbox.decode(deadly.image("deadly"), EXTRACT, "a.jpg")
    assert stop.value.args == (
        "decoder_died",
        "its decoder crashed (SIGSEGV), which a damaged image can cause",
    )
    good = encoded(Image.fromarray(RGB))
    assert np.array_equal(sandbox.decode(good, EXTRACT, "b.png").pixels, RGB)


def test_a_header_that_crashes_the_decoder_is_a_reject(sandbox, tmp_path):
    (tmp_path / "a.jpg").write_bytes(deadly.image("at once"))
    item = open_storage(str(tmp_path)).head("a.jpg")
    with pytest.raises(Rejected) as stop:
        sandbox.read_header(BucketParams(url=str(tmp_path)), tmp_path / "memory", item, 10**9)
    assert stop.value.reason == "decoder_died"
    assert message("a.jpg", stop.value) == (
        "a.jpg: its decoder crashed (SIGBUS), which a damaged image can cause"
    )


def test_an_image_that_takes_too_long_is_a_reject(sandbox):
    start = time.monotonic()
    with pytest.raises(Rejected) as stop:
        sandbox.decode(deadly.image("endless"), EXTRACT, "a.jpg")
    assert stop.value.args == ("too_slow", "not decoded after 1 s of CPU time")
    assert time.monotonic() - start < 60


@pytest.mark.slow
def test_the_time_limit_is_for_each_image_and_not_for_the_process(sandbox):
    data = encoded(Image.fromarray(np.tile(RGB, (40, 40, 1))), "PNG")
    start = time.monotonic()
    while time.monotonic() - start < 3:
        sandbox.decode(data, EXTRACT, "a.png")


def test_too_little_memory_stops_the_run_and_rejects_nothing(sandbox):
    """What the system killed for lack of memory may be read tomorrow."""
    with pytest.raises(InputError) as stop:
        sandbox.decode(deadly.image("hungry"), EXTRACT, "a.jpg")
    assert str(stop.value) == (
        "a.jpg: there is not enough memory to decode it; free some, run fewer workers, or lower "
        "bucket.max_pixels"
    )


def test_what_a_decoder_prints_does_not_disturb_the_reply(sandbox):
    data = deadly.image("talkative")
    want = decode_image(data, EXTRACT)
    assert np.array_equal(sandbox.decode(data, EXTRACT, "a.jpg").pixels, want)


def test_no_process_outlives_its_sandbox(armed):
    before = child_pids()
    sandbox = DecoderSandbox()
    sandbox.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    (pid,) = child_pids() - before
    sandbox.close()
    assert not psutil.pid_exists(pid)
    sandbox.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    (pid,) = child_pids() - before
    psutil.Process(pid).send_signal(signal.SIGINT)  # Ctrl-C is for the parent
    sandbox.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    assert child_pids() - before == {pid}
    sandbox.close()


def test_no_process_outlives_its_parent_however_that_ends(armed, tmp_path):
    (tmp_path / "endless.jpg").write_bytes(deadly.image("endless"))
    code = (
        "import sys; from pathlib import Path; from pipeline.images.sandbox import DecoderSandbox\n"
        "from pipeline.config.sections import ExtractParams\n"
        "extract = ExtractParams(extractor='filters')\n"
        "DecoderSandbox().decode(Path(sys.argv[1]).read_bytes(), extract, 'a')"
    )
    path = os.pathsep.join(sys.path)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "endless.jpg")],
        env={**os.environ, "PYTHONPATH": path},
    )
    deadline = time.monotonic() + 60
    while sum(child.cpu_times().user for child in psutil.Process(parent.pid).children()) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(children, timeout=10)[1] == []
