# make help lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
LINT := .venv-lint
BIN := $(VENV)/bin
BOOKING_LAKE ?= $(CURDIR)/.lake
export BOOKING_LAKE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit lint workspace clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make .venv with everything the project needs

$(VENV)/.ready: setup.py
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); sys.exit(None if ok else f"Python {sys.version.split()[0]} found; 3.10 to 3.12 is needed: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --upgrade 'pip>=23' 'setuptools<81' wheel
	@PYTHONWARNINGS=ignore PYTHONPATH=$(CURDIR)/scripts/python312 $(BIN)/python -m pip install -q --no-build-isolation -e '.[local,dbx,test]'
	@touch $@

demo: setup ## Run the whole pipeline here; BOOKING_CSV=path/to/Booking.csv uses your own file
	@$(BIN)/booking-mlops run --env local $(if $(BOOKING_CSV),--booking-csv "$(BOOKING_CSV)")

test: setup ## Run all tests, with coverage
	@$(BIN)/python -m pytest --cov --cov-report=term --cov-fail-under=90 $(ARGS)

test-unit: setup ## Run the tests that need no Spark: seconds
	@$(BIN)/python -m pytest tests/unit $(ARGS)

workspace: setup ## Keep a Databricks workspace up on this machine for the real dbx, and print what to export
	@$(BIN)/python -m local_workspace serve

$(LINT)/.ready: Makefile
	@test -x $(LINT)/bin/python || $(PYTHON) -m venv $(LINT)
	@$(LINT)/bin/python -m pip install -q 'ruff==0.14.*' 'mypy==1.18.*' 'import-linter==2.*' flask pandas-stubs \
		types-PyYAML types-requests types-tqdm types-waitress
	@touch $@

lint: setup $(LINT)/.ready ## ruff, mypy (strict) and import-linter
	@$(LINT)/bin/ruff check .
	@$(LINT)/bin/ruff format --check .
	@$(LINT)/bin/mypy
	@PYTHONPATH=. $(LINT)/bin/lint-imports --no-cache

clean: ## Remove what the build made; the lake stays
	rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache $(VENV) $(LINT)
