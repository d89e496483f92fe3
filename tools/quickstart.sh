#!/usr/bin/env bash
# From a fresh clone to a trained multi-resolution classifier and its baselines, on generated images or your own.
#
#   bash tools/quickstart.sh [--data FOLDER [--epochs N]] [--work-dir DIR]
#
# Installs what classification needs, if it is missing (no operators of mmcv, so nothing is compiled), then runs
# tools/quickstart.py with the same arguments. It prints how long each stage took.
set -euo pipefail
started=$(date +%s)
# pip would compile every module; Python compiles those that are imported.
export PIP_NO_COMPILE=1
# shellcheck source=tools/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_environment classification

exec "$PY" "$ROOT/tools/quickstart.py" --started "$started" "$@"
