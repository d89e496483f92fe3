#!/usr/bin/env bash
# Test on several processes of one or more machines (torchrun):
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# On each of several machines, with its own NODE_RANK:
#   NNODES=2 NODE_RANK=0 PORT=29500 MASTER_ADDR=10.0.0.1 bash tools/dist_test.sh CONFIG CHECKPOINT GPUS
# One machine uses a free port unless PORT is set. --max-restarts N goes on after a process or a machine is lost.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash $0 CONFIG CHECKPOINT GPUS [--max-restarts N] [options of tools/test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
# shellcheck source=tools/threads.sh
. "$(dirname "$0")/threads.sh"

PYTHONPATH="$(dirname "$0")/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m resformer_mm.processes.torchrun \
    "$GPUS" "$(dirname "$0")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
