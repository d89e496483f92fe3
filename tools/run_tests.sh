#!/usr/bin/env bash
# Installs missing requirements of the tests, then runs linter, formatter, type checker and all tests. For another
# stack, see tools/test_stack.sh.
#
#   bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
# shellcheck source=tools/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_environment tests

cd "$ROOT"
say 'ruff check'
"$PY" -m ruff check .
say 'ruff format --check'
"$PY" -m ruff format --check .
say 'mypy'
"$PY" -m mypy
say 'pytest'
# Threads that spin while they wait would slow down the tests that start processes on few cores.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
# One process of pytest per core, of one thread each. Tests of a file share what they build, and so the process.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$PY" -m pytest -m '' -n auto --maxprocesses 8 --dist loadfile --durations=15 "$@"
