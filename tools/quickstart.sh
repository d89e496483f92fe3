#!/usr/bin/env bash
# From a fresh clone to a trained multi-resolution classifier and its baselines, on generated images.
#
#   bash tools/quickstart.sh [--work-dir DIR]
#
# Installs the pinned stack if it is missing (12 to 45 minutes the first time, for mmcv's operators), then
# runs tools/quickstart.py with the same arguments.
set -euo pipefail
# shellcheck source=tools/install.sh
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
install_environment

exec "$PY" "$ROOT/tools/quickstart.py" "$@"
