# `make repro` and `make test` need nothing but Python 3.11, git and make.
PYTHON ?= python3.11
BIN := .venv/bin

# No telemetry; threads that wait for each other sleep instead of spinning, which takes ten times as long where another process is
# busy; large buffers are kept between steps instead of being returned to the system after each.
export PATH := $(CURDIR)/$(BIN):$(PATH)
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

repro: .venv/installed ## a whole study, every table and figure: the one that params.yaml names, or make repro STUDY=laptop; with ON=slurm as jobs
	@python -m ctp_lib.run.graph $(STUDY)
	@python -m ctp_lib.run.engine $(if $(ON),--on $(ON))

check: .venv/installed ## can a study run here, and what does it take? make check [STUDY=...] [MODEL=a name, a folder, a hub id]
	@python -m ctp_lib.run.graph $(STUDY)
	@dvc repro --quiet corpora && python -m ctp_lib.machine.preflight $(if $(MODEL),"$(MODEL)")

plan: .venv/installed ## hours, memory and disk of a study, before any of it runs: make plan STUDY=paper [RATE=300, in TFLOP/s]
	@python -m ctp_lib.run.graph $(STUDY)
	@python -m ctp_lib.machine.plan $(if $(RATE),--rate $(RATE))

COMMA := ,
try: .venv/installed ## your own model in some minutes: make try MODEL=a folder, file.gguf or hub id [TEXT=files] [LEVELS="3bit 75%"] [METHODS="soft_prompt eora"] [MINUTES=10]
	@python -m ctp_lib.run.cell notebooks/try_your_model.py $(if $(MODEL),-p model "$(MODEL)") $(if $(TEXT),-p text "$(TEXT)") \
		$(if $(LEVELS),-p levels '[$(subst $() ,$(COMMA),$(strip $(LEVELS)))]') \
		$(if $(METHODS),-p methods '[$(subst $() ,$(COMMA),$(strip $(METHODS)))]') $(if $(MINUTES),-p minutes $(MINUTES))

# One process a core, one thread each: two small models at once go faster than one on two threads.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test: .venv/installed ## all but the slow tests
	$(PYTEST) -m "not long"

test-fast: .venv/installed ## the fast tests, two minutes
	$(PYTEST) -m "not long and not medium"

test-all: .venv/installed ## all tests
	$(PYTEST)

lint: .venv/installed ## style, by ruff
	ruff check . && ruff format --check .

# The lock leaves out the packages that torch's CUDA wheel pulls in.
CUDA := $(addprefix --no-emit-package ,triton setuptools cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti \
	nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)

lock: .venv/installed ## rebuild requirements.txt from pyproject.toml; versions change only where they must
	uv pip compile pyproject.toml --extra text --extra test --universal --python-version 3.11 --no-annotate --quiet $(CUDA) \
		--custom-compile-command "make lock" --output-file requirements.txt
	sed -i.old -E "s/ ; python_full_version < '3.12'$$//; s/python_full_version < '3.12' and //" requirements.txt && rm requirements.txt.old

record: .venv/installed ## keep what the last run made, under results/recorded and figures/recorded; its ledger in the README
	python -m ctp_lib.results.recorded keep
	python -m ctp_lib.claims.readme

compare: .venv/installed ## your run beside the recorded one: do the tables agree, and every outcome?
	python -m ctp_lib.results.recorded compare

bench: .venv/installed ## every hot path beside what people would use instead; three quarters of an hour on a quiet machine
	for name in prompt_step distilled_step perplexity zero_shot compression compression_model page; do python -m benchmarks.$$name || exit 1; done

.venv-book/installed: book/requirements.txt
	$(PYTHON) -m venv .venv-book
	.venv-book/bin/pip install --quiet --disable-pip-version-check --requirement book/requirements.txt
	@touch $@

book: .venv-book/installed ## the recorded notebooks, the pages and an explorer as one site: build/book/html/index.html
	.venv-book/bin/python book/build.py

check-book: book ## open every page of the book in a real browser (chromium)
	.venv-book/bin/python book/check.py

lab: .venv/installed ## the notebooks, in JupyterLab
	jupyter lab notebooks

notebooks: .venv/installed ## bring notebooks/*.ipynb up to date with their sources, notebooks/*.py
	jupytext --update --to ipynb notebooks/*.py notebooks/appendix/*.py

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

.PHONY: repro check plan try test test-fast test-all lint lock record compare bench book check-book lab notebooks help
