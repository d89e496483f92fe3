#!/usr/bin/env bash
# Train on a Slurm cluster, one task per GPU:
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
# A training that Slurm stops with a signal (#SBATCH --signal=USR1@120, preemption) goes on from its checkpoint: a batch
# job is requeued, otherwise srun is called again. REQUEUE=0 leaves this out, and the status is 85.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: bash $0 PARTITION JOB_NAME CONFIG [options of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
# shellcheck source=tools/threads.sh
. "$(dirname "$0")/threads.sh"
PREEMPTED=85

# In this folder, the tasks note that they were stopped and end with 0. Ending with 85, the first would make Slurm kill
# the others.
RESFORMER_MM_LAUNCH=$(mktemp -d "$PWD/.slurm_train.XXXXXX" || mktemp -d)
export RESFORMER_MM_LAUNCH
trap 'rm -rf "$RESFORMER_MM_LAUNCH"' EXIT
# Bash handles signals after srun. Slurm signals this script when the job is cancelled, but not to stop its steps.
CANCELLED=
trap 'CANCELLED=1' INT TERM

train() {
    local status=0
    # SRUN_ARGS is a list of words on purpose.
    # shellcheck disable=SC2086
    PYTHONPATH="$(dirname "$0")/..:${PYTHONPATH:-}" srun -p "$PARTITION" \
        --job-name="$JOB_NAME" \
        --gres="gpu:$GPUS_PER_NODE" \
        --ntasks="$GPUS" \
        --ntasks-per-node="$GPUS_PER_NODE" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "$@" || status=$?
    if [ -e "$RESFORMER_MM_LAUNCH/status" ]; then
        status=$(cat "$RESFORMER_MM_LAUNCH/status")
        rm "$RESFORMER_MM_LAUNCH/status"
    fi
    return "$status"
}

status=0
train "${@:4}" || status=$?
while [ "$status" -eq "$PREEMPTED" ] && [ -z "$CANCELLED" ] && [ "${REQUEUE:-1}" != 0 ]; do
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        echo "$0: stopped by a signal, job $SLURM_JOB_ID is requeued" >&2
        scontrol requeue "$SLURM_JOB_ID" || echo "$0: not requeued: the same command with --resume goes on" >&2
        break
    fi
    echo "$0: stopped by a signal, a new job goes on" >&2
    status=0
    train "${@:4}" --resume || status=$?
done
exit "$status"
