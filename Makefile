# `make help` lists what there is. Everything runs in .venv, which the first target creates; repeating is instant.

# The first Python that is new enough; PYTHON=/path/to/python chooses another.
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),python3)
VENV := .venv
RUN := $(VENV)/bin
READY := $(VENV)/.floe-ready
JARS := $(VENV)/.floe-jars
CHECKED := tests/unit tests/property tests/rpc tests/architecture
LOCK := $(RUN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
# pip must neither take a setting of some other project nor ask anything.
PIP := $(RUN)/python -m pip --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-all check format gen lock bench clean
.DELETE_ON_ERROR:
export PYTHONUNBUFFERED := 1

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) $(JARS) ## create the environment and fetch what it needs (every other command does it by itself)

demo: $(READY) $(JARS) ## start everything, make a real Iceberg table healthy, show it, stop everything
	@$(RUN)/python deploy/demo/demo.py

dev: $(READY) $(JARS) ## run the whole system on this machine until ^C
	@$(RUN)/floe dev

test: $(READY) $(JARS) ## all tests but the long tiers, with the real PostgreSQL and the real Spark
	$(RUN)/python -m pytest -m "not slow"

test-all: $(READY) $(JARS) ## all tests
	$(RUN)/python -m pytest

check: $(READY) ## prove a change in under a minute: format, lint, types, imports, protos, fast tests
	$(RUN)/ruff format --check
	$(RUN)/ruff check
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/python proto/generate.py --check --lint --breaking
	$(RUN)/python -m control_plane.config_reference --check docs/configuration.md
	$(RUN)/python -m control_plane.policy_reference --check docs/policies.md
	$(RUN)/python -m pytest -m "not slow and not spark" $(CHECKED)

format: $(READY) ## write the code as the formatter wants it
	$(RUN)/ruff format
	$(RUN)/ruff check --fix

gen: $(READY) ## write what is generated: shared/gen from proto/, pages of docs/ from the code
	$(RUN)/python proto/generate.py
	$(RUN)/python -m control_plane.domain.diagram > docs/state-machine.md.new
	mv docs/state-machine.md.new docs/state-machine.md
	$(RUN)/python -m control_plane.config_reference docs/configuration.md
	$(RUN)/python -m control_plane.policy_reference docs/policies.md

lock: $(READY) ## resolve the requirements of every role again, keeping what still fits
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra control-plane -c requirements/dev.txt -o requirements/control-plane.txt
	$(LOCK) pyproject.toml --extra spark -c requirements/dev.txt -o requirements/spark.txt
	$(LOCK) pyproject.toml --extra client -c requirements/dev.txt -o requirements/client.txt

bench: $(READY) $(JARS) ## measure, beside what each figure is compared with
	$(RUN)/python -m tests.bench

clean: ## remove the environment and all caches inside the tree (downloads stay in the user's cache)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. Everything is locked by hash, what builds the sdists included, so nothing is fetched outside a lock.
$(READY): pyproject.toml requirements/build.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Floe needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; downloads about 1 GB, kept in pip's cache)"
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --require-hashes --no-build-isolation -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

# The jars of Iceberg, PostgreSQL and the local catalog: fetched into the user's cache, verified by checksum.
$(JARS): $(READY) executor/engines/spark/artifacts.py
	$(RUN)/python -m executor.engines.spark.artifacts
	@touch $@
