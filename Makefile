# The README's commands. Each makes the environment first if there is none, and is quick when it stands.
.PHONY: setup setup-dev quickstart lint test test-long clean
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
export PYTHONWARNINGS := ignore::FutureWarning
export PYTHONDONTWRITEBYTECODE :=  # set in many images; without bytecode a training's start takes twice as long

help:
	@echo "make quickstart   from nothing to a trained model, in minutes on two cores"
	@echo "make test         lint, types, import rules and tests (what CI runs)"
	@echo "make test-long    the tests that take minutes"
	@echo "make setup        only the environment, in .venv"

.venv/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON): $$($(PYTHON) --version); Python 3.11 or newer is wanted (make PYTHON=python3.12 …)" >&2; exit 2; }
	@echo "making .venv (about a minute and a half, 3 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/.dev: .venv/.runtime
	@$(PIP) --editable '.[dev]'
	@touch $@

setup: .venv/.runtime

setup-dev: .venv/.dev

quickstart: setup
	@$(BIN)/ssrnn quickstart

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two files at a time, in the order of tests/conftest.py.
test: lint
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test-long: setup-dev
	$(BIN)/python -m pytest -m long --timeout=1200

clean:
	rm -rf .venv dist build
