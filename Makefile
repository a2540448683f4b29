# make help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export NO_ALBUMENTATIONS_UPDATE = 1
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-real test check docs bench screenshots wheel-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## .venv from constraints.txt; skipped when up to date

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "semiseg needs Python 3.11 to 3.13, this is %d.%d: set PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: setup ## three methods on the embedded data set, a table, runs/demo/report.html
	$(BIN)/semiseg train -m experiment=demo method=supervised,mean_teacher,unimatch seed=0,1
	$(BIN)/semiseg report runs/demo

# CamVid is recognized by its folder names; any other folder must contain images/, masks/ and classes.yaml.
OF_CAMVID := data=camvid protocol=camvid/1_8 transforms.scale=[0.3,0.8]
OF_FOLDER := data=folder protocol=folder/$(or $(PARTITION),all)

demo-real: setup ## DATA=DIR: four methods on photos, pretrained encoder, half an hour; runs/demo_real/report.html
	@test -d "$(DATA)" || { echo "make demo-real DATA=DIR: '$(DATA)' is not a folder; expected CamVid, or images/, masks/ and classes.yaml"; exit 2; }
	$(BIN)/semiseg train -m experiment=demo_real $(if $(wildcard $(DATA)/trainannot),$(OF_CAMVID),$(OF_FOLDER)) \
		method=supervised,mean_teacher,fixmatch_ema,unimatch data.root="'$(abspath $(DATA))'" $(ARGS)
	$(BIN)/semiseg report runs/demo_real

test: setup ## the test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: setup docs ## lint, format, types, configurations, documentation
	$(BIN)/ruff check src tests benchmarks tools experiments
	$(BIN)/ruff format --check src tests benchmarks tools experiments
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/config

docs: setup ## the documentation site, site/index.html; needs no network
	$(BIN)/python -m mkdocs build --quiet --strict

screenshots: demo ## the pictures of the documentation, with chromium
	$(BIN)/python tools/screenshots.py

wheel-check: setup ## build a wheel, install it outside the checkout, train three steps
	$(BIN)/python tools/wheel_check.py

bench: setup ## benchmarks: a table, and JSON in benchmarks/results/
	$(BIN)/python benchmarks/run.py

clean: ## remove the environment and caches; keeps runs/
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .mypy_cache
