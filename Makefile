# `make repro` and `make test` need nothing but Python 3.11, git and make.
PYTHON ?= python3.11
BIN := .venv/bin

# No telemetry; threads that wait for each other sleep instead of spinning, which takes ten times as long where another process is
# busy; large buffers are kept between steps instead of being returned to the system after each.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false
export PYTHONHASHSEED := 0
export PYTHONUNBUFFERED := 1
export OMP_WAIT_POLICY := PASSIVE
export MALLOC_TRIM_THRESHOLD_ := 100000000000
export MALLOC_MMAP_MAX_ := 0

SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

.venv/installed: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not here; install Python 3.11, or say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

repro: .venv/installed ## the whole study: every table and figure, from what is installed here
	python -m ctp_lib.nursery dvc repro | python -m ctp_lib.progress <(dvc stage list --name-only)

test: .venv/installed ## the tests
	pytest

bench: .venv/installed ## every hot path beside what people would use instead; three quarters of an hour on a quiet machine
	for name in prompt_step perplexity zero_shot compression compression_model $(if $(wildcard data/seconds.jsonl),overhead) page; do python -m benchmarks.$$name || exit 1; done

check: .venv/installed ## can MODEL (a name, a folder, a hub id) be studied here, and what does it take? make check MODEL=...
	@python -m ctp_lib.preflight "$(MODEL)"

lab: .venv/installed ## the notebooks, in JupyterLab
	jupyter lab notebooks

notebooks: .venv/installed ## bring notebooks/*.ipynb up to date with their sources, notebooks/*.py
	jupytext --sync notebooks/*.py

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

.PHONY: repro test bench check lab notebooks help
