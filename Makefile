# `make demo` and `make test` set themselves up: they need Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Messages of TensorFlow's start-up, which mean nothing to a reader.
export TF_CPP_MIN_LOG_LEVEL ?= 3

# Most of a test's time is one thread of Python that builds graphs.
PARALLEL := -n 2 --dist loadscope

PORT ?= 8000
# Whose page to build: of those that ship, the largest pictures.
WEIGHTS ?= $(lastword $(sort $(wildcard weights/*.safetensors)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-jax test-slow test-notebook test-web notebook web lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/installed ## train on drawn flowers and show samples, under 10 minutes
	$(BIN)/python scripts/train.py --config configs/demo.yaml

web: $(VENV)/installed-export ## build the page that draws in a browser, and serve it
	$(BIN)/python web/assemble.py --weights $(WEIGHTS) --out build/web
	$(BIN)/python web/serve.py build/web --port $(PORT)

test: $(VENV)/installed-dev ## run the tests
	$(BIN)/python -m pytest $(PARALLEL)

test-jax: $(VENV)/installed-jax ## run the tests on the JAX backend
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL)

test-slow: $(VENV)/installed-dev ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-notebook: $(VENV)/installed-dev ## run the notebook from top to bottom
	$(BIN)/python -m pytest -m slow tests/test_notebook.py

notebook: $(VENV)/installed-dev ## run the notebook and store its outputs in it
	$(BIN)/jupyter-execute --inplace notebooks/ddpm_flowers.ipynb

test-web: $(VENV)/installed-web ## test the page in Chromium, which must be installed
	$(BIN)/python -m pytest -m slow tests/test_web.py

lint: $(VENV)/installed-dev ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-dev ## put the code into format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf $(VENV) build web/node_modules *.egg-info .pytest_cache .ruff_cache

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .[dev]
	@touch $@

$(VENV)/installed-export: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .[export]
	@touch $@

$(VENV)/installed-web: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .[dev,web]
	@touch $@

$(VENV)/installed-jax: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .[dev,jax]
	@touch $@
