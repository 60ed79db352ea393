"""The line of progress: what is done, how fast, and how long it will take."""

import pytest

from pipeline.core import progress
from pipeline.core.progress import Counted, line


@pytest.mark.parametrize(
    ("done", "total", "seconds", "expected"),
    [
        (0, 210, 12.0, "extract: 0 of 210 chips"),
        (5, 205, 10.0, "extract: 5 of 205 chips, 0.5 per second, 6 min left"),
        (1500, 2_000, 30.0, "extract: 1,500 of 2,000 chips, 50 per second, 10 s left"),
        (9, 9, 1.5, "extract: 9 of 9 chips, 6.0 per second, 0 s left"),
    ],
)
def test_the_time_left_is_shown_once_something_is_done(done, total, seconds, expected):
    assert line("extract", Counted(done, 0, total, "chips"), seconds) == expected


def test_what_an_interrupted_run_has_done_counts_but_not_for_the_rate(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.FOLDER, str(tmp_path))
    progress.expect(40, "epochs")
    with progress.Progress("train", "epochs", 40) as resumed:
        resumed.resume(30)
        resumed.step(5)
    counted = progress._counted(tmp_path)
    expected = "train: 35 of 40 epochs, 1.0 per second, 5 s left"
    assert line("train", counted, 5.0) == expected
