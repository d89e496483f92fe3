#!/usr/bin/env bash
# Installs the pinned stack into the active virtual or conda environment, or into .venv of this project.
#
#   bash tools/install.sh [tests]      'tests' adds the requirements of the tests
#
# When sourced, it provides install_environment [tests], which sets $PY to the interpreter and puts it first in
# PATH. Installed packages are kept, whatever their version; a second run only checks. Variables: PYTHON (the
# interpreter that creates .venv), MAX_JOBS (compiler processes, default: number of cores), CXX.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
REQUIREMENTS="$ROOT/requirements"

say() { printf -- '-- %s\n' "$*"; }

die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    if (($#)); then printf '       %s\n' "$@" >&2; fi
    rmdir "$LOGS" 2>/dev/null || true # kept if there is anything to read
    exit 1
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

make_venv() {
    local candidate base='' output
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        if supported "$candidate"; then base="$candidate" && break; fi
    done
    [[ -n $base ]] || die "no usable Python: ${PYTHON:-python3} is missing or not of version 3.10 to 3.13." \
        'Install one of them, or name it by PYTHON=/path/to/python3.11 before the command.'
    say "making a virtual environment in .venv with $("$base" --version)"
    if ! output=$("$base" -m venv "$ROOT/.venv" 2>&1); then
        rm -rf "$ROOT/.venv"
        tail -n 5 <<<"$output" >&2
        die "$base cannot make a virtual environment: its module venv or ensurepip is missing." \
            'On Debian and Ubuntu: apt-get install python3-venv. Or activate an existing environment.'
    fi
}

choose_python() {
    if [[ -n ${VIRTUAL_ENV:-} ]]; then
        PY="$VIRTUAL_ENV/bin/python"
    elif [[ -n ${CONDA_PREFIX:-} ]]; then
        PY="$CONDA_PREFIX/bin/python"
    else
        PY="$ROOT/.venv/bin/python"
        [[ -x $PY ]] || make_venv
    fi
    supported "$PY" || die "$PY is missing or not of version 3.10 to 3.13." \
        'Activate an environment that has one of them; or deactivate this one, delete .venv if it is there, and' \
        'let the project make its own (PYTHON=/path/to/python3.11 chooses the interpreter).'
    say "using $PY ($("$PY" --version))"
    PATH="$(dirname "$PY"):$PATH"
    export PATH
}

missing() { "$PY" "$ROOT/tools/missing_requirements.py" "$@"; }

# run_watched TITLE LOG COMMAND...: run it with its output in LOG, and report progress every 20 seconds.
run_watched() {
    local title="$1" log="$2" job files status=0 start=$SECONDS next=20 elapsed
    shift 2
    set -m # in a separate process group, so an interrupt reaches the compilers as well
    "$@" >"$log" 2>&1 </dev/null &
    job=$!
    set +m
    trap 'kill -- -$job 2>/dev/null; rm -rf "$LOGS"; exit 130' INT TERM
    while kill -0 "$job" 2>/dev/null; do
        sleep 1
        elapsed=$((SECONDS - start))
        ((elapsed >= next)) || continue
        next=$((next + 20))
        files=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | tr -d ' []' || true)
        printf '   %s: %d:%02d min%s\n' "$title" $((elapsed / 60)) $((elapsed % 60)) \
            "${files:+, file ${files/\// of } is being compiled}"
    done
    wait "$job" || status=$?
    trap - INT TERM
    return "$status"
}

# pip_install TITLE ARGUMENTS...: never replaces what missing_requirements.py --freeze lists.
pip_install() {
    local title="$1" log="$LOGS/pip-${1//[^a-zA-Z0-9]/-}.log"
    shift
    say "installing $title"
    missing --freeze >"$LOGS/keep.txt"
    run_watched "$title" "$log" \
        "$PY" -m pip install --disable-pip-version-check --verbose -c "$LOGS/keep.txt" "$@" && return
    printf '\nlast lines of %s:\n' "$log" >&2
    tail -n 20 "$log" | cut -c 1-300 >&2
    if grep -qE 'Retrying \(|NewConnectionError|Could not fetch URL|ProxyError' "$log"; then
        die "installing $title failed: pip cannot reach a package index." \
            'Connect to the network or configure a mirror for pip, then run the same command again.'
    elif grep -qE 'ResolutionImpossible|conflicting dependencies' "$log"; then
        die "installing $title failed: it does not fit what this environment holds, which is never replaced." \
            'Deactivate it, so that the project makes its own, and run the same command again.'
    fi
    die "installing $title failed; the lines above say why." "${REMEDY:-Run the same command again.}"
}

check_compiler() {
    command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler (${CXX:-c++}), which mmcv's operators need." \
        'On Debian and Ubuntu: apt-get install g++. Elsewhere set CXX to yours. Then run the same command again.'
    "$PY" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        die "the C headers of $PY (Python.h) are missing, which mmcv's operators need." \
            'On Debian and Ubuntu: apt-get install python3-dev. Then run the same command again.'
}

check_opencv() {
    local output
    output=$("$PY" -c 'import cv2; cv2.imread' 2>&1) && return
    tail -n 3 <<<"$output" >&2
    die 'OpenCV is installed, but does not import.' \
        'If libGL or libgthread is missing: on Debian and Ubuntu, apt-get install libgl1 libglib2.0-0. If it says' \
        '"no attribute", two OpenCV packages met: uninstall all but one of them and reinstall that one.'
}

install_browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    if ((EUID)) || ! command -v apt-get >/dev/null; then
        say 'no chromium and chromedriver in PATH, which the tests of pages need' \
            '(Debian: apt-get install chromium chromium-driver)'
        return
    fi
    say 'installing chromium and its driver, for the tests of pages'
    run_watched chromium "$LOGS/apt.log" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver' && return
    tail -n 20 "$LOGS/apt.log" | cut -c 1-300 >&2
    die 'installing chromium failed; the lines above say why.' \
        'Install chromium and chromium-driver with apt-get, then run the same command again.'
}

install_mmcv() (
    export MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
    # With a visible GPU, mmcv would require the CUDA compiler.
    if [[ -z ${CUDA_HOME:-} ]] && ! command -v nvcc >/dev/null; then export CUDA_VISIBLE_DEVICES=; fi
    REMEDY='If a compiler was "Killed" for want of memory: MAX_JOBS=1 before the command. It starts over.'
    say "compiling mmcv's operators: 12 to 45 minutes on 2 cores, once; pip keeps the result and reuses it"
    pip_install mmcv --no-deps --no-build-isolation -r "$REQUIREMENTS/mmcv.txt"
    if ! "$PY" -c 'import mmcv.ops' >/dev/null 2>&1; then
        say 'the cached build of mmcv was compiled for another PyTorch: compiling again'
        pip_install mmcv --no-deps --no-build-isolation --no-cache-dir --force-reinstall -r "$REQUIREMENTS/mmcv.txt"
    fi
)

# shellcheck disable=SC2086  # lists of requirements without spaces, to be split
install_environment() {
    LOGS="$(mktemp -d "${TMPDIR:-/tmp}/resformer-mm-install.XXXXXX")"
    choose_python
    if [[ ${1:-} == tests ]]; then install_browser; fi
    local build torch stack no_deps mmcv project tests=''
    torch=$(missing "$REQUIREMENTS/torch.txt")
    stack=$(missing "$REQUIREMENTS"/{stack,video,analysis}.txt)
    no_deps=$(missing "$REQUIREMENTS"/{no-deps,onedl}.txt)
    mmcv=$(missing "$REQUIREMENTS/mmcv.txt")
    build=$(missing ${mmcv:+--exact} "$REQUIREMENTS/build.txt")
    project=$(missing --project "$ROOT")
    if [[ ${1:-} == tests ]]; then tests=$(missing --exact "$REQUIREMENTS"/{tests,demo,deployment}.txt); fi
    if [[ -z $build$torch$stack$no_deps$mmcv$tests$project ]]; then
        rm -rf "$LOGS"
        say 'everything needed is installed'
        return
    fi

    if [[ -n $mmcv ]]; then check_compiler; fi
    "$PY" -m pip --version >/dev/null 2>&1 || "$PY" -m ensurepip >/dev/null 2>&1 ||
        die "$PY has no pip." 'Install pip into that environment, then run the same command again.'
    if [[ -n $build ]]; then pip_install 'build tools' $build; fi
    if [[ -n $torch ]]; then pip_install PyTorch $torch; fi
    if [[ -n $stack ]]; then pip_install 'common packages' $stack; fi
    check_opencv
    if [[ $no_deps == *torchvision* ]] && missing --exact "$REQUIREMENTS/torch.txt" | grep -q '^torch=='; then
        pip_install 'the torchvision that fits the PyTorch kept' torchvision
        no_deps=$(grep -v '^torchvision' <<<"$no_deps" || true)
    fi
    if [[ -n $no_deps ]]; then
        pip_install 'torchvision and the OpenMMLab packages' --no-deps --no-build-isolation $no_deps
    fi
    if [[ -n $mmcv ]]; then install_mmcv; fi
    if [[ -n $tests ]]; then pip_install 'test tools' $tests; fi
    if [[ -n $project ]]; then
        pip_install 'resformer-mm in development mode' --no-deps --no-build-isolation -e "$ROOT"
    fi
    rm -rf "$LOGS"
    say 'the environment is ready'
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then install_environment "$@"; fi
