#!/usr/bin/env bash
# Time from a clone of this repository, with an empty package cache, to the first training step and the table of
# tools/quickstart.sh.
#
#   bash benchmarks/quickstart_time.sh [FOLDER]
#
# Clones into FOLDER (a temporary folder), and writes seconds since the start to
# benchmarks/results/quickstart_time.csv. The clone is made from the local disk; all packages are downloaded,
# except those that the settings of pip find on this machine.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$(mktemp -d)}
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH
PIP_CACHE_DIR=$(mktemp -d)
export PIP_CACHE_DIR
started=$(date +%s)
git clone --quiet "$root" "$folder/resformer_mm"
cloned=$(($(date +%s) - started))
bash "$folder/resformer_mm/tools/quickstart.sh"
awk -F, -v OFS=, -v cloned="$cloned" '
    NR == 1 { print; print "clone", cloned; next }
    { print $1, $2 + cloned }
' "$folder/resformer_mm/work_dirs/quickstart/time_line.csv" > "$root/benchmarks/results/quickstart_time.csv"
rm -rf "$PIP_CACHE_DIR"
