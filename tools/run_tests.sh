#!/usr/bin/env bash
# Installs what the tests need if it is missing, then lints, checks the formatting and runs the tests.
#
#   bash tools/run_tests.sh [arguments of pytest]      without any: the whole suite
set -euo pipefail
# shellcheck source=tools/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_environment tests

cd "$ROOT"
say 'ruff check'
"$PY" -m ruff check .
say 'ruff format --check'
"$PY" -m ruff format --check .
say 'pytest'
# Threads that spin while they wait would slow down the tests that start processes on few cores.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
exec "$PY" -m pytest --durations=15 "$@"
