# `make demo` and `make test` set everything up themselves. They need Python 3.11 or later, make and the package index.
#
#   make demo     build the demo's videos, curate them on Ray, print what the manifest says
#   make test     lint, types and the everyday tests
#   make slow     the tests that take long
#   make soak     kill runs at random moments, 200 times, and look at what they leave (half an hour)
#   make kills    kill runs on Ray at each of their writes (half an hour)
#   make fuzz     scan 5,000 damaged files (a quarter of an hour)
#   make wheel-test  build the wheel, install it and weigh it in a bare environment, run it (two to three minutes)
#   make resolve  resolve the packages for the platforms that this one is not; writes the table of docs/install.md (five minutes)
#   make venv     only set up .venv
#   make readers  a trainer's own data code for the tests (without it they skip)
#
# PYTHON=python3.12 chooses the interpreter that .venv is made from.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
RUN_ARGS ?=
SOAK_ARGS ?=
KILLS_ARGS ?=
FUZZ_ARGS ?=
WHEEL_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv readers demo demo-media test slow soak kills fuzz lint wheel-test resolve clean

help:
	@sed -n 's/^#   //p' Makefile

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv found; name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing into $(VENV): torch and its companions are large, the first time takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

# Without its dependencies: it pins a linter and asks for CUDA packages; its data code needs none of them.
readers: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps finetrainers==0.2.0

demo-media: $(STAMP)
	@$(BIN)/python -m curate.pipelines.demo_media demo/videos

demo: demo-media
	$(BIN)/curate run configs/demo.yaml input=demo/videos output=demo/manifest $(RUN_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

# Two files at a time; the demo's videos, which many tests read, are there before.
test: lint demo-media
	$(BIN)/python -m pytest -m "not gpu and not slow" -n 2 --dist loadfile $(PYTEST_ARGS)

slow: demo-media
	$(BIN)/python -m pytest -m "slow and not gpu" -n 2 --dist loadfile $(PYTEST_ARGS)

soak: $(STAMP)
	PYTHONPATH=. $(BIN)/python benchmarks/soak.py $(SOAK_ARGS)

kills: $(STAMP)
	$(BIN)/python tests/kill_runs.py $(KILLS_ARGS)

fuzz: $(STAMP)
	$(BIN)/python benchmarks/fuzz.py $(FUZZ_ARGS)

wheel-test: $(STAMP)
	$(BIN)/python tests/wheel_install.py $(WHEEL_ARGS)

# uv evaluates markers for another platform, which pip cannot.
resolve: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python benchmarks/resolve.py --uv $(BIN)/uv

clean:
	rm -rf demo build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
