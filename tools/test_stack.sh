#!/usr/bin/env bash
# Installs a stack, with mmcv's operators, into its own environment and runs all tests there.
#
#   bash tools/test_stack.sh onedl|openmmlab [arguments of pytest]
#
# The environment is .venv or .venv-openmmlab of this project, whatever is active; PYTHON names the interpreter
# that creates it. The result is also written as JUnit XML, to work_dirs/test_stack/STACK.xml, which
# benchmarks/compatibility.py --junit reads. The linter and the type checker are part of tools/run_tests.sh.
set -euo pipefail
stack="${1:-}"
case $stack in
    onedl | openmmlab) shift ;;
    *) echo "usage: bash $0 onedl|openmmlab [arguments of pytest]" >&2 && exit 2 ;;
esac
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH
# shellcheck source=tools/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_environment --stack "$stack" tests

cd "$ROOT"
report="work_dirs/test_stack/$stack.xml"
mkdir -p "$(dirname "$report")"
say "all tests on the stack '$stack', with a report in $report"
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
exec "$PY" -m pytest -m '' --junitxml="$report" "$@"
