# Shortcuts; every command also works alone. PYTHON chooses the interpreter of an environment that is set up.
PYTHON ?= python

.PHONY: install lint test test-core test-all docs

install: ## set up .venv or the active environment, with what the tests need
	bash tools/install.sh tests

lint: ## linter, formatter, type checker
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test: ## the quick tests
	$(PYTHON) -m pytest

test-core: ## the tests that need PyTorch and MMEngine alone
	$(PYTHON) -m pytest -m core

test-all: ## set up, lint, every test
	bash tools/run_tests.sh

docs: ## the documentation, in site/
	$(PYTHON) -m mkdocs build --strict
