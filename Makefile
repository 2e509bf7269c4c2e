# Set-up, the main job and the tests. Each target is one command that also works by hand.
.DEFAULT_GOAL := help
.PHONY: help venv train study test test-slow ray loggers floor torture bench lint clean

# The first of these that is a Python this project supports; `make PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
FAULT_SEED ?= 0
BIN := .venv/bin
READY := .venv/.ready

help:  ## show this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY)  ## create .venv and install the project into it (nothing to do when up to date)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.13 found; name one with make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(READY)

train: $(READY)  ## train Net3 on MNIST for 15 epochs and print the verdict
	$(BIN)/python -m mnist_lightning model=net3 trainer.max_epochs=15

study: $(READY)  ## train the three published experiments and write outputs/study/report.html (15 minutes on two cores)
	$(BIN)/python -m mnist_lightning --multirun experiment=exp1,exp2,exp3 gate.on_miss=warn resume=true hydra.sweep.dir=outputs/study
	$(BIN)/python -m mnist_lightning report outputs/study

test: $(READY)  ## run the tests that a change needs, side by side (4 to 5 minutes on two cores)
	$(BIN)/python -m pytest -n auto --maxprocesses 4

test-slow: $(READY)  ## run the rest: kills, launchers, browser, odd command lines (9 minutes)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "slow and not ray and not torture"

ray: $(READY)  ## run the tests that need Ray, and install it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,ray]"
	$(BIN)/python -m pytest -m ray

loggers: $(READY)  ## run the tests that need MLflow and Weights & Biases, and install them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,mlflow,wandb]"
	$(BIN)/python -m pytest tests/training/test_services.py

floor: $(READY)  ## run all tests with the oldest versions that pyproject.toml allows, in .venv-floor (5 GB)
	test -x .venv-floor/bin/python || $(PYTHON) -m venv .venv-floor
	$(BIN)/python -m tests.floor > .venv-floor/constraints.txt
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-floor/constraints.txt --editable ".[dev]"
	# What these old libraries call in newer ones may be deprecated there by now; that is not this project's.
	.venv-floor/bin/python -m pytest -m "not ray" -W ignore::DeprecationWarning

torture: $(READY)  ## inject every fault of docs/reliability.md (about 40 minutes); make torture FAULT_SEED=1 repeats another draw
	$(BIN)/python -m pytest -m torture
	FAULTS=all FAULT_SEED=$(FAULT_SEED) $(BIN)/python -m pytest -m "not ray" tests/faults

bench: $(READY)  ## measure a training step against the published loop and the machine (5 minutes)
	$(BIN)/python -m mnist_lightning benchmark

lint: $(READY)  ## check style (ruff), types (mypy) and the direction of imports
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

clean:  ## remove .venv, .venv-floor and caches (outputs/ and data/ stay)
	rm -rf .venv .venv-floor .pytest_cache .mypy_cache .ruff_cache
