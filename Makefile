# Shortcuts; every command also works alone. PYTHON chooses the interpreter of an environment that is set up.
PYTHON ?= python

.PHONY: install lint lint-files test test-core test-all test-upstream docs

install: ## set up .venv or the active environment, with what the tests need
	bash tools/install.sh tests

lint: ## linter, formatter, type checker
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

lint-files: ## ruff, and the linters of shell scripts and Dockerfiles (requirements/lint.txt)
	ruff check .
	ruff format --check .
	shellcheck --external-sources --source-path=tools tools/*.sh
	hadolint docker/Dockerfile docker/cpu.Dockerfile

test: ## the quick tests
	$(PYTHON) -m pytest

test-core: ## the tests that need PyTorch and MMEngine alone
	$(PYTHON) -m pytest -m core

test-all: ## set up, lint, every test
	bash tools/run_tests.sh

test-upstream: ## every test on upstream OpenMMLab and PyTorch 2.1
	bash tools/test_stack.sh openmmlab

docs: ## the documentation, in site/
	$(PYTHON) -m mkdocs build --strict
