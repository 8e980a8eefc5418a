# Print Farm. `make demo` to see it, `make test` to check it; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# into the environment that the target's stamp lies in; what pip complains about is shown if it fails
INSTALL = $(@D)/bin/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes \
	--requirement $< 2>$(@D)/pip.log \
	| { grep --line-buffered -E '^ *(Collecting|Building|Installing)' | cut -c-100 || true; } \
	|| { cat $(@D)/pip.log >&2; exit 1; }
# for 3.11.0: what only the first 3.11s need is harmless to the others
COMPILE = $(CURDIR)/$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
# as in production, on an empty data folder
AS_DEPLOYED = data=$$(mktemp -d); trap 'rm -rf "$$data"' EXIT; \
	FARM_DATA_DIR=$$data FARM_TLS=true FARM_PROXIES=1 FARM_HOSTS=farm.example FARM_ORIGINS=https://farm.example
# the machine's npm, else the one that comes as a Python package
NPM := $(or $(shell command -v npm),PATH="$(CURDIR)/$(BIN):$$PATH" npm)
PORT ?= 8000
# whole files, in this order: those of a file share farms and servers, and the long ones come early; one process more
# than cores, as flows often wait
PYTEST ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help demo setup dev peers test lint format screenshots lock clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 16

demo: setup ## the whole farm with two simulated printers on http://127.0.0.1:8000 (make demo PORT=8001 elsewhere)
	@exec $(BIN)/python manage.py up --demo --port $(PORT) --data-dir data/demo

setup: $(VENV)/.farm node_modules/.built ## the virtual environment with what the farm runs on, and the pages' scripts

dev: $(VENV)/.dev node_modules/.built ## and what checks it

peers: .venvs/octoprint/.stamp .venvs/moonraker/.stamp ## the real OctoPrint and Moonraker, for tests

test: dev peers ## all tests
	$(BIN)/python -m pytest $(PYTEST)

lint: dev ## style, types, settings, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	@$(AS_DEPLOYED) $(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(AS_DEPLOYED) $(BIN)/python manage.py makemigrations --check --dry-run

format: dev ## put the code into its standard form
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

screenshots: dev ## the pictures of the README (needs Chromium)
	$(BIN)/python -m docs.screenshots

lock: dev ## pin and hash anew what requirements/*.in ask for (UPGRADE=1 takes the newest)
	cd requirements; for name in farm dev node octoprint moonraker; do \
		echo "$$name"; $(COMPILE) $$name.in --output-file $$name.lock >/dev/null; done
	@! grep -nE '://|--(extra-)?index|--find-links|--trusted-host' requirements/*.lock
	@$(NPM) install --package-lock-only $(if $(UPGRADE),&& $(NPM) update --package-lock-only)
	@! grep -nE '"resolved"' package-lock.json

clean: ## forget the environments, the built pages and the demo's data
	rm -rf $(VENV) .venvs node_modules static/built data/demo

$(VENV)/bin/python:
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Print Farm needs Python 3.11 or newer; choose one: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.farm: requirements/farm.lock | $(VENV)/bin/python
	@echo "Installing what the farm runs on (about a minute, once) ..."
	@$(INSTALL)
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.farm
	@echo "Installing what checks the farm ..."
	@$(INSTALL)
	@touch $@

$(VENV)/.node: requirements/node.lock | $(VENV)/bin/python
	@echo "Installing npm ..."
	@$(INSTALL)
	@touch $@

node_modules/.installed: package-lock.json .npmrc $(if $(shell command -v npm),,$(VENV)/.node)
	@echo "Installing what the pages' scripts stand on ..."
	@$(NPM) ci --no-progress --loglevel=error >/dev/null
	@touch $@

node_modules/.built: node_modules/.installed package.json $(shell find web -type f)
	@rm -rf static/built
	@$(NPM) run --silent build
	@touch $@

.venvs/%/.stamp: requirements/%.lock
	@echo "Installing the real $* into .venvs/$* ..."
	@$(PYTHON) -m venv .venvs/$*
	@$(INSTALL)
	@touch $@
