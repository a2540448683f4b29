# make help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export NO_ALBUMENTATIONS_UPDATE = 1
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench screenshots wheel-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## .venv from constraints.txt; does nothing when nothing changed

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "semiseg needs Python 3.11 to 3.13, this is %d.%d: set PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: setup ## three methods on the embedded data set, a table, runs/demo/report.html
	$(BIN)/semiseg train -m experiment=demo method=supervised,mean_teacher,unimatch seed=0,1
	$(BIN)/semiseg report runs/demo

test: setup ## the test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: setup docs ## lint, format, types, configurations, documentation
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/config

docs: setup ## the documentation site, site/index.html; needs no network
	$(BIN)/python -m mkdocs build --quiet --strict

screenshots: demo ## the pictures of the documentation, by chromium
	$(BIN)/python tools/screenshots.py

wheel-check: setup ## a wheel, installed outside the checkout, trains three steps
	$(BIN)/python tools/wheel_check.py

bench: setup ## benchmarks: a table, and JSON under benchmarks/results/
	$(BIN)/python benchmarks/run.py

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .mypy_cache
