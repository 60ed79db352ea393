"""Ctrl-C while files are written: no half-written file is left."""

import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

PUT = """
from pipeline.storage.folder import Folder
folder = Folder(root)
def write(number):
    folder.put(f"{number % 5}", bytes(1000))
"""
PLACE = """
from pipeline.store import outputs
def write(number):
    outputs.place(root / f"{number % 5}", outputs.out(bytes(1000)))
"""
PROGRAM = """
import itertools, sys
from pathlib import Path
from pipeline.core import signals
signals.stop_on_signals()
root = Path(sys.argv[1])
{how}
write(0)
print("begun", flush=True)
for number in itertools.count():
    write(number)
"""


@pytest.mark.parametrize("how", [PUT, PLACE], ids=["put", "place"])
def test_ctrl_c_leaves_no_half_written_file(tmp_path, how):
    rng = random.Random(0)
    command = [sys.executable, "-c", PROGRAM.format(how=how)]
    for number in range(20):
        root = tmp_path / str(number)
        root.mkdir()
        run = subprocess.Popen(
            [*command, root], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        run.stdout.readline()
        time.sleep(rng.uniform(0.01, 0.05))
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 128 + signal.SIGINT
        run.stdout.close()
        files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        assert files
        assert set(files) <= {"0", "1", "2", "3", "4"}
