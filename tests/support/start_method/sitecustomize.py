"""Imported by every Python with this folder on its path: has it start processes by START_METHOD."""

import multiprocessing
import os

if method := os.environ.get("START_METHOD"):
    multiprocessing.set_start_method(method)
