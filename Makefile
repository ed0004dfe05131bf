# The work is in manage.py's commands; this file installs what they need and calls them.

SHELL := /bin/sh
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# Written when what a session needs, and when what tests and linters need besides, is installed. The first
# one holds the pip that installs.
RUNNABLE := $(VENV)/.runnable
INSTALLED := $(VENV)/.installed

# Each test that starts a program would compile the project anew, and each test process all tests.
unexport PYTHONDONTWRITEBYTECODE

# As many processes as tests/conftest.py says. `make test PARALLEL=` runs one after another.
PARALLEL ?= -n auto

# The first interpreter that is new enough; .python-version names the one we develop with.
FIND_PYTHON := for candidate in $(INTERPRETER) python$$(cat .python-version) python3.14 python3.13 python3.12 python3 python; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then echo $$candidate; exit 0; fi; \
	done

ITS_NAME := 'import sys; print("Python", sys.version.split()[0], "of", sys.executable)'

NO_PYTHON := { \
	echo "Python 3.12 or newer is needed. Found: $$(for candidate in python3 python; do \
		$$candidate -c 'import sys; print(sys.executable, "is", sys.version.split()[0], end="; ")' 2>/dev/null; \
		done || true)nothing newer on PATH."; \
	echo "Install one: apt install python3-venv (Debian 13, Ubuntu 24.04), brew install python@3.13,"; \
	echo "pyenv install 3.13, or uv python install 3.13. Or name one that is not on PATH:"; \
	echo "  make INTERPRETER=/path/to/python3.13 $(MAKECMDGOALS)"; } >&2

.DEFAULT_GOAL := help

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install into .venv what the lock says

# Not manage.py, which needs settings that can be loaded: a session waits for the edit that mends them.
run: $(RUNNABLE) ## Start Postgres, web and worker, and run one real job (PORT=8000)
	@$(PYTHON) -m pgjobs.dev

test: $(INSTALLED) ## Run the tests on a throwaway Postgres of their own (ARGS=... for pytest)
	@$(PYTHON) manage.py pg run --throwaway -- $(VENV)/bin/pytest -m "not e2e and not long" $(PARALLEL) $(ARGS)

# Which of them: `make test-all LONG="long and not longest"` leaves out the longest.
LONG ?= long

test-all: test ## Run the tests, then those of faults that want more time
	@$(PYTHON) manage.py pg run --throwaway -- $(VENV)/bin/pytest -m "$(LONG)" -n 6

faults: $(INSTALLED) ## Run the fault campaign, hours on real workers, and write docs/reliability.md (ARGS=...)
	@PYTHONPATH=.:tests/support $(PYTHON) -m tests.faults.campaign $(ARGS)

e2e: $(INSTALLED) ## Run the tests that need a browser (Debian's chromium)
	@$(PYTHON) manage.py pg run --throwaway -- $(VENV)/bin/pytest -m e2e -p no:randomly $(ARGS)

bench: $(INSTALLED) ## Measure ours beside the peers, and write docs/performance.md (ARGS=...)
	@$(PYTHON) -m benchmarks $(ARGS)

bench-quick: $(INSTALLED) ## Measure ours beside Procrastinate in less than a minute
	@$(PYTHON) -m benchmarks --quick $(ARGS)

lint: $(INSTALLED) ## ruff, mypy, import contracts, bandit, dead code, migrations, known holes, SBOM
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/bandit -q -c pyproject.toml -r manage.py pgjobs myproj myapp tasks
	@$(VENV)/bin/vulture
	@$(PYTHON) manage.py pg run --throwaway -- $(PYTHON) manage.py lintmigrations
	@$(PYTHON) manage.py audit
	@$(MAKE) --no-print-directory VENV=$(VENV) sbom

format: $(INSTALLED) ## Let ruff format and fix the code
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

audit: $(INSTALLED) ## Look for known holes in what requirements/ names
	@$(PYTHON) manage.py audit

sbom: $(INSTALLED) ## Write what production installs as var/sbom.cdx.json (CycloneDX)
	@mkdir -p var
	@PYTHONWARNINGS=ignore $(VENV)/bin/cyclonedx-py requirements requirements/base.txt --pyproject pyproject.toml --output-reproducible \
		--output-format JSON -o var/sbom.cdx.json

lock: $(INSTALLED) ## Compile requirements/ from pyproject.toml
	@$(COMPILE) pyproject.toml --group dev -o requirements/dev.txt
	@$(COMPILE) pyproject.toml --group run -c requirements/dev.txt -o requirements/run.txt
	@$(COMPILE) pyproject.toml --group example -c requirements/dev.txt -o requirements/base.txt
	@$(COMPILE) pyproject.toml --extra docs-ui --group example -c requirements/dev.txt -o requirements/docs-ui.txt
	@$(COMPILE) --group build -c requirements/dev.txt -o requirements/build.txt

COMPILE := $(VENV)/bin/uv pip compile --quiet --no-strip-extras --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links

clean: ## Remove what make made: .venv, caches (var/, with the database, stays; see: manage.py pg reset)
	@rm -rf .venv .venv-* build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What pip is told in both of these.
PIP_OPTIONS := --quiet --disable-pip-version-check --no-input

# Rebuilt when the lock changes. The project itself is installed in place, so that `procrastinate` and
# `uvicorn`, which are in $(VENV)/bin, find it from anywhere. With the interpreter's own pip, where it has
# one; what is imported is compiled when it is: both for a start within seconds.
$(RUNNABLE): requirements/run.txt pyproject.toml
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then $(NO_PYTHON); exit 1; fi; \
	echo "Installing into $(VENV) with $$($$python -c $(ITS_NAME)) (once, about ten seconds) ..."; \
	if $$python -m pip --version >/dev/null 2>&1; then \
		pip="$$python -m pip --python $(PYTHON)"; no_pip=--without-pip; \
	else \
		pip="$(PYTHON) -m pip"; no_pip=; \
	fi; \
	$$python -m venv --clear $$no_pip $(VENV) && \
	$$pip install $(PIP_OPTIONS) --no-compile --require-hashes -r requirements/run.txt && \
	$$pip install $(PIP_OPTIONS) --no-compile --no-deps --no-build-isolation -e . && \
	echo "$$pip" >$@

# Into the same place. Compiled here: a warning of a compiler's would be an error in a test.
$(INSTALLED): $(RUNNABLE) requirements/dev.txt
	@echo "Installing what tests and linters need besides (once, about half a minute) ..."
	@$$(cat $(RUNNABLE)) install $(PIP_OPTIONS) --require-hashes -r requirements/dev.txt
	@$(PYTHON) -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

.PHONY: help install run test test-all faults e2e bench bench-quick lint format audit sbom lock clean
