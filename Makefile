# What a person types. `make` alone lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Where it is set, every stage of every run compiles all the code anew.
unexport PYTHONDONTWRITEBYTECODE
T ?=
PYTEST := python -m pytest -n logical --maxprocesses 4 --dist worksteal
MINUTES ?=
IDLE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow check audit fix lock mutants bench worker store trace clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.done  ## make .venv from the pinned requirements

$(VENV)/.done: requirements.txt pyproject.toml
	@demo/environment.sh $(PYTHON) $(VENV)
	@touch $@

demo: setup  ## the whole pipeline on the sample bucket: images to validation results
	@python -m demo.make_bucket
	@python -m demo.run

test: setup  ## run the tests; T=chip: those of one package, or whose name matches
	@$(PYTEST) $(if $(T),$(if $(wildcard tests/$(T)),tests/$(T),-k "$(T)"))

slow: setup  ## the tests that take minutes; MINUTES=30: begin none after that
	@$(PYTEST) -m slow --timeout 1800 $(if $(MINUTES),--minutes $(MINUTES))

check: setup  ## what CI runs: lint, format, types, layers, audit, tests
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-logo
	@python .ci/audit.py
	@$(PYTEST)

audit: setup  ## look for the pinned requirements among known vulnerabilities; AUDIT=required
	@python .ci/audit.py

fix: setup  ## correct lint and format, and write the generated pages
	@ruff check --fix .
	@ruff format .
	@python -m docs.generate

lock: setup  ## after an edit of pipeline/: compare golden values, and write pipeline/code.lock
	@PYTHONPATH=.:tests:tests/support python tests/golden/lock.py

mutants: setup  ## T=metrics: list changes of that package's code that no test notices
	@python tests/mutants/run.py $(T)

bench: setup  ## print every benchmark's ratios
	@for file in benchmarks/[a-z]*.py; do python $$file || exit 1; done

worker: setup  ## join the runs of other machines; IDLE=300: leave after 300 s without work
	@python -m stages.worker $(if $(IDLE),--idle $(IDLE))

store: setup  ## what the store holds; ARGS="--unneeded --remove": remove what nobody needs
	@python -m stages.store $(ARGS)

trace: setup  ## one image's walk: make trace KEY=skimage/brick.png
	@python -m stages.trace "$(KEY)"

clean:  ## remove what runs have made; not the environment
	@rm -rf data/*/ models/*/ results/* dvc_plots .quadrat demo/bucket
