"""Images read in a process of their own: it may die, and whoever asked it does not."""

import os
import signal
import subprocess
import sys
import time
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
    """Make the processes that are started here die of deadly images."""
    folder = deadly.arm(tmp_path_factory.mktemp("armed"))
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def sandbox(armed):
    """One reader, told to allow a second."""
    found = DecoderSandbox(limit_s=1)
    yield found
    found.close()


def children():
    return {child.pid for child in psutil.Process().children()}


def test_pixels_are_those_that_are_decoded_here(sandbox):
    for kind in ("JPEG", "PNG", "TIFF"):
        data = encoded(Image.fromarray(RGB), kind)
        want = decode_image(data, EXTRACT)
        got = sandbox.decode(data, EXTRACT, "a.jpg")
        assert np.array_equal(got, want)
        assert (got.dtype, got.flags.c_contiguous) == (np.uint8, True)


def test_a_header_is_the_one_that_is_read_here(sandbox, tmp_path):
    exif = exif_of(t274=6, t306="2010:01:02 03:04:05")
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    storage = open_storage(str(tmp_path))
    item = storage.head("a.jpg")
    got = sandbox.read_header(BucketParams(url=str(tmp_path)), tmp_path / "memory", item, 10**9)
    assert got == read_header(storage, item, max_pixels=10**9)
    assert got["captured_at"] == datetime(2010, 1, 2, 3, 4, 5)


def test_a_reject_is_the_one_that_is_raised_here(sandbox):
    with pytest.raises(Rejected) as here:
        decode_image(b"no image", EXTRACT)
    with pytest.raises(Rejected) as there:
        sandbox.decode(b"no image", EXTRACT, "a.jpg")
    assert there.value.args == here.value.args


def test_a_buckets_fault_stays_the_buckets(sandbox, tmp_path):
    with pytest.raises(Missing, match="no such file"):
        sandbox.read_header(
            BucketParams(url=str(tmp_path)), tmp_path / "memory", Object("gone.jpg", 9, "v"), 10**9
        )


def test_a_decoder_that_dies_is_a_reject_and_the_next_image_is_read(sandbox):
    with pytest.raises(Rejected) as stop:
        sandbox.decode(deadly.image("deadly"), EXTRACT, "a.jpg")
    assert stop.value.args == (
        "decoder_died",
        "its decoder crashed (SIGSEGV), which a damaged image can cause",
    )
    good = encoded(Image.fromarray(RGB))
    assert np.array_equal(sandbox.decode(good, EXTRACT, "b.png"), RGB)


def test_a_header_that_kills_is_a_reject(sandbox, tmp_path):
    (tmp_path / "a.jpg").write_bytes(deadly.image("at once"))
    item = open_storage(str(tmp_path)).head("a.jpg")
    with pytest.raises(Rejected) as stop:
        sandbox.read_header(BucketParams(url=str(tmp_path)), tmp_path / "memory", item, 10**9)
    assert stop.value.reason == "decoder_died"
    assert message("a.jpg", stop.value) == (
        "a.jpg: its decoder crashed (SIGBUS), which a damaged image can cause"
    )


def test_an_image_that_takes_for_ever_is_a_reject(sandbox):
    begun = time.monotonic()
    with pytest.raises(Rejected) as stop:
        sandbox.decode(deadly.image("endless"), EXTRACT, "a.jpg")
    assert stop.value.args == ("too_slow", "not decoded after 1 s of CPU time")
    assert time.monotonic() - begun < 60


@pytest.mark.slow
def test_many_images_may_take_longer_than_one_may(sandbox):
    """The time is each image's own, not its process's."""
    data = encoded(Image.fromarray(np.tile(RGB, (40, 40, 1))), "PNG")
    begun = time.monotonic()
    while time.monotonic() - begun < 3:
        sandbox.decode(data, EXTRACT, "a.png")


def test_a_machine_short_of_memory_stops_the_run_and_rejects_nothing(sandbox):
    """What the system killed for want of memory may be read tomorrow."""
    with pytest.raises(InputError) as stop:
        sandbox.decode(deadly.image("hungry"), EXTRACT, "a.jpg")
    assert str(stop.value) == (
        "a.jpg: there is not enough memory to decode it; free some, run fewer workers, or lower "
        "bucket.max_pixels"
    )


def test_what_a_decoder_prints_is_no_answer(sandbox):
    data = deadly.image("talkative")
    want = decode_image(data, EXTRACT)
    assert np.array_equal(sandbox.decode(data, EXTRACT, "a.jpg"), want)


def test_no_process_outlives_its_reader(armed):
    before = children()
    reader = DecoderSandbox()
    reader.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    (pid,) = children() - before
    reader.close()
    assert not psutil.pid_exists(pid)
    reader.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    (pid,) = children() - before
    psutil.Process(pid).send_signal(signal.SIGINT)  # Ctrl-C is for whoever asks
    reader.decode(encoded(Image.fromarray(RGB)), EXTRACT, "a.png")
    assert children() - before == {pid}
    reader.close()


def test_no_process_outlives_who_asked_it_however_that_ends(armed, tmp_path):
    (tmp_path / "endless.jpg").write_bytes(deadly.image("endless"))
    code = (
        "import sys; from pathlib import Path; from pipeline.images.sandbox import DecoderSandbox\n"
        "from pipeline.config.sections import ExtractParams\n"
        "extract = ExtractParams(extractor='filters')\n"
        "DecoderSandbox().decode(Path(sys.argv[1]).read_bytes(), extract, 'a')"
    )
    path = os.pathsep.join(sys.path)
    asker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "endless.jpg")],
        env={**os.environ, "PYTHONPATH": path},
    )
    deadline = time.monotonic() + 60
    while not (found := psutil.Process(asker.pid).children()) or found[0].cpu_times().user < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    asker.kill()
    asker.wait()
    assert psutil.wait_procs(found, timeout=10)[1] == []
