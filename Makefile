# Two commands matter: `make demo` shows the product, `make test` proves it. Everything lives in .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check test-slow format clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## Train, index, evaluate and search the documentation inside your own Python
	$(BIN)/retriever demo

test: check ## Style checks and the default test suite
	$(PYTEST) -m "not slow" -n $(WORKERS)

check: .venv/test.stamp ## Style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: .venv/test.stamp ## The long tests
	$(PYTEST) -m slow --timeout 3600

format: .venv/test.stamp ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, builds and caches
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch alone first: it is the one big download, and everything else is resolved around the version it pins.
.venv/torch.stamp: constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

.venv/demo.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) --editable '.[report]'
	touch $@

.venv/test.stamp: .venv/torch.stamp pyproject.toml
	$(PIP) --editable '.[dev]'
	touch $@
