#!/usr/bin/env bash
# Train on several processes of one or more machines (torchrun):
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# On each of several machines, with its own NODE_RANK:
#   NNODES=2 NODE_RANK=0 PORT=29500 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh CONFIG GPUS
# Going on from the last checkpoint, up to 3 times, after a process or a machine is lost:
#   bash tools/dist_train.sh CONFIG GPUS --max-restarts 3
# One machine uses a free port unless PORT is set.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash $0 CONFIG GPUS [--max-restarts N] [options of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
# shellcheck source=tools/threads.sh
. "$(dirname "$0")/threads.sh"

PYTHONPATH="$(dirname "$0")/..:${PYTHONPATH:-}" exec "${PYTHON:-python}" -m resformer_mm.processes.torchrun \
    "$GPUS" "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
