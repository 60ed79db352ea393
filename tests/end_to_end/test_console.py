"""What a person sees on a terminal: one bar for each stage, and one line of counts."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

from stage_counts import stage_counts


def on_a_terminal(repo, *command):
    """Run a command in the clone on a terminal of 40 × 110; return its exit code and the output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, cwd=repo.path, env=repo.env, **streams) as process:
        os.close(theirs)
        printed = b""
        try:
            while data := os.read(ours, 65_536):
                printed += data
        except OSError:  # Linux's way to say that the terminal is closed
            pass
    os.close(ours)
    return process.returncode, printed.decode()


def test_on_a_terminal_a_stage_shows_one_bar_and_one_line_of_counts(copy_of_done):
    repo = copy_of_done()
    repo.set(extract__batch=32, train__epochs=400)
    code, printed = on_a_terminal(repo, "dvc", "repro", "train")
    assert code == 0, printed
    bars = dict(re.findall(r"(\w+): +\d+%\|[^|]*\| \d+/(\d+) ", printed))
    assert bars["extract"] == "144"
    assert bars["train"] == "400"
    # A line of counts takes the place of the bar, which the code before it clears.
    lines = stage_counts(printed.replace("\r\x1b[K", "\n"))
    assert [row["stage"] for row in lines] == ["index", "extract", "train"]
    assert "Luigi" not in printed
    assert '{"' not in printed
