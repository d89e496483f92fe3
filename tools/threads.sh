# Sourced by the scripts that start several processes: the threads of each.
# MMEngine and torchrun would set one as well, with a warning from every process.
if [ -z "${OMP_NUM_THREADS:-}" ] && [ "$GPUS" -gt 1 ]; then
    export OMP_NUM_THREADS=1
    echo "OMP_NUM_THREADS=1: each process computes with one thread on the CPU; set the variable for more" >&2
fi
if [ -n "${OMP_NUM_THREADS:-}" ]; then export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"; fi
