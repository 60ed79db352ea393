#!/usr/bin/env bash
# Make a virtual environment from the pinned requirements: with uv if it is installed, else with pip.
# On a terminal, their own bars show the progress; elsewhere they print plain lines.
# usage: environment.sh PYTHON FOLDER
set -euo pipefail
python=$1
folder=$2

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
  echo "$("$python" --version) found; Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 …" >&2
  exit 1
fi

tool=$(command -v uv >/dev/null && echo uv || echo pip)
echo "1 of 3: creating $folder for $("$python" --version)"
if [ $tool = uv ]; then
  uv venv --quiet --clear --python "$python" "$folder"
  install=(uv pip install --python "$folder/bin/python")
  compile=--compile-bytecode
else
  "$python" -m venv --clear "$folder"
  install=("$folder/bin/python" -m pip install --disable-pip-version-check)
  compile=--compile  # as pip does in any case
fi
echo "2 of 3: installing the $(grep -c == requirements.txt) pinned packages of requirements.txt with $tool;" \
  "on Linux they are several GB, most of it PyTorch and CUDA, and take minutes"
"${install[@]}" $compile --require-hashes -r requirements.txt
echo "3 of 3: installing this checkout"
"${install[@]}" --quiet --no-deps --no-build-isolation -e .
echo "$folder is ready; to use it in this shell: source $folder/bin/activate"
