# Each target makes the virtual environment first if it is not there: `make repro` is enough.
# setup.sh installs; PYTHON=/path/to/python3 and TORCH=cpu (or cu130, …) choose for it.
VENV := .venv
# The stages are started as `python -m …`: they must find this environment's Python.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

# DVC plans (`dvc repro --dry`) only over folders that are there.
TRAINED := mujoco metaworld atari environments
FOLDERS := $(addprefix artifacts/,$(TRAINED:%=experts/%) $(TRAINED:%=episodes/%) episodes/babyai \
	corpora/text corpora/vision random dataset jat evaluation)

.PHONY: help setup dev repro test lint mutate coverage bench lock licences clean FORCE
help:
	@echo "make repro     build everything: experts, episodes, corpora, dataset, JAT, report"
	@echo "make test      run the tests"
	@echo "make lint      ruff and basedpyright"
	@echo "make coverage  run the tests, and show which lines none of them runs"
	@echo "make mutate    change the code in a hundred ways; the tests have to notice each"
	@echo "make bench     run the benchmarks"
	@echo "make setup     install only, in $(VENV); make dev: with what tests and lint need"
	@echo "make lock      write the locks anew from pyproject.toml, and docs/LICENCES.md"

$(VENV)/.installed: requirements.lock pyproject.toml setup.sh
	sh setup.sh
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements-dev.lock
	sh setup.sh dev
	@touch $@

ifdef TORCH
$(VENV)/.installed: FORCE
endif

setup: $(VENV)/.installed
	@mkdir -p $(FOLDERS)

dev: setup $(VENV)/.dev

# Without git, as in an archive, DVC has to be told.
# First what would stop it later on; then the code, as DVC does not watch what a profile brings.
repro: setup
	@python -m pipeline.check
	@python -m pipeline.unlock
	@git rev-parse --git-dir >/dev/null 2>&1 || python -m dvc config --local core.no_scm true
	python -m dvc repro --quiet --force --single-item code
	python -m dvc repro
	@echo "report: $(CURDIR)/artifacts/report/index.html"

test: dev
	python -m pytest -n 2

lint: dev
	ruff check .
	ruff format --check .
	basedpyright

mutate: dev
	python -m benchmarks.mutate

coverage: dev
	python -m pytest -n 2 --cov --cov-report=term --cov-report=html

# Left out are benchmarks/deduplicate.py, which needs a file of pages, and benchmarks/storage.py,
# which needs episodes of Atari: python -m benchmarks.storage artifacts/episodes/atari
bench: dev
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

# For all of Python 3.11 to 3.13, with hashes and without the address of any index. The second lock
# has only what development adds to the first. Without UPGRADE=1 versions stay as far as they can.
COMPILE := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-package torch --no-header --no-annotate \
	$(if $(UPGRADE),--upgrade)
lock: dev
	$(COMPILE) --output-file requirements.lock >/dev/null
	$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock \
		$$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements.lock) >/dev/null
	$(MAKE) licences

licences: dev
	python docs/licences.py

clean:
	rm -rf artifacts metrics
