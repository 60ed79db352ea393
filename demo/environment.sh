#!/usr/bin/env bash
# Make a virtual environment from the pinned requirements: with uv where it is found, else with pip.
# usage: environment.sh PYTHON FOLDER
set -euo pipefail
python=$1
folder=$2

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
  echo "$("$python" --version) found; Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 …" >&2
  exit 1
fi

if command -v uv >/dev/null; then
  uv venv --quiet --clear --python "$python" "$folder"
  uv pip install --quiet --compile-bytecode --python "$folder/bin/python" --require-hashes -r requirements.txt
  uv pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation -e .
else
  "$python" -m venv --clear "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
