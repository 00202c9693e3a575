# Each target makes the virtual environment first if it is not there: `make repro` is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV)/bin)
# The stages are started as `python -m …`: they must find this environment's Python.
export PATH := $(BIN):$(PATH)
export VIRTUAL_ENV := $(abspath $(VENV))

# DVC plans (`dvc repro --dry`) only over folders that are there.
TRAINED := mujoco metaworld atari environments
FOLDERS := $(addprefix artifacts/,$(TRAINED:%=experts/%) $(TRAINED:%=episodes/%) episodes/babyai \
	corpora/text corpora/vision random dataset jat evaluation)

.PHONY: help setup repro test lint bench lock clean
help:
	@echo "make repro   build everything: experts, episodes, corpora, dataset, JAT, report"
	@echo "make test    run the tests"
	@echo "make lint    ruff and basedpyright"
	@echo "make bench   run the benchmarks"
	@echo "make lock    write requirements.lock anew from pyproject.toml"

# torch goes in first, with pip: where a CPU build is offered (pip's find-links) uv would not see it.
# The lock is complete, so nothing is resolved here; `pip check` would name Sample Factory's stale
# pins only, which pyproject.toml explains.
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "error: Python 3.11 is needed; pass it as PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv torch==2.13.0
	$(BIN)/uv pip install --quiet --no-deps -r requirements.lock -e .
	@mkdir -p $(FOLDERS)
	@touch $@

setup: $(VENV)/.installed

repro: setup
	dvc repro
	@echo "report: $(abspath artifacts/report/index.html)"

test: setup
	pytest -n 2

lint: setup
	ruff check .
	ruff format --check .
	basedpyright

# Left out are benchmarks/deduplicate.py, which needs a file of pages, and benchmarks/storage.py,
# which needs episodes of Atari: python -m benchmarks.storage artifacts/episodes/atari
bench: setup
	python -m benchmarks.babyai_bot
	python -m benchmarks.train_experts
	python -m benchmarks.collect
	python -m benchmarks.collect --memory
	python -m benchmarks.corpus_rates
	python -m benchmarks.jat_speed
	python -m benchmarks.train_jat
	for domain in mujoco metaworld babyai atari; do \
		python -m benchmarks.rates --domain $$domain --seconds 1 || exit $$?; done
	for domain in mujoco metaworld atari; do \
		python -m benchmarks.training_rates --domain $$domain || exit $$?; done
	python -m benchmarks.smoke_collect

lock: setup
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --no-emit-package torch \
		--no-header --no-annotate --upgrade --output-file requirements.lock

clean:
	rm -rf artifacts metrics
