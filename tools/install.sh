#!/usr/bin/env bash
# Installs a pinned stack into the active virtual or conda environment, or into one of this project.
#
#   bash tools/install.sh [--stack onedl|openmmlab] [TASK ...] [tests]
#
#   --stack onedl       maintained forks of OpenMMLab on a current PyTorch (default; own environment: .venv)
#   --stack openmmlab   upstream OpenMMLab on PyTorch 2.1 (own environment: .venv-openmmlab)
#   TASK                classification, segmentation, detection, video; default: all. Only segmentation and
#                       detection need mmcv's compiled operators; without them, mmcv builds in seconds
#   tests               what the tests need as well
#
# Installed packages are kept, whatever their version, and so is the stack of an environment; a second run only
# checks. The one exception: in the project's own environment, mmcv without operators is replaced when they are
# needed. When sourced, it provides install_environment, which takes the same arguments, sets $PY to the
# interpreter and $STACK to the stack, and puts the interpreter first in PATH. Variables: PYTHON (the interpreter
# that creates an own environment), MAX_JOBS (compiler processes, default: number of cores), CXX.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
REQUIREMENTS="$ROOT/requirements"
LOGS=''

say() { printf -- '-- %s\n' "$*"; }

die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    if (($#)); then printf '       %s\n' "$@" >&2; fi
    if [[ -n $LOGS ]]; then rmdir "$LOGS" 2>/dev/null || true; fi # kept if there is anything to read
    exit 1
}

usage() {
    sed -n '4p' "${BASH_SOURCE[0]}" | sed 's/^# */usage: /' >&2
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# parse_arguments ARGUMENTS...: sets STACK (may be empty), TASKS, EVERYTHING (no task is named) and TESTS.
parse_arguments() {
    STACK='' TASKS='' TESTS=''
    while (($#)); do
        case $1 in
            --stack) (($# > 1)) || usage '--stack needs a name: onedl or openmmlab' && STACK="$2" && shift ;;
            --stack=*) STACK="${1#*=}" ;;
            classification | segmentation | detection | video) TASKS+=" $1" ;;
            tests) TESTS=tests ;;
            *) usage "unknown argument: $1" ;;
        esac
        case $STACK in '' | onedl | openmmlab) ;; *) usage "unknown stack: $STACK" ;; esac
        shift
    done
    EVERYTHING=''
    if [[ -z $TASKS ]]; then EVERYTHING=yes TASKS='classification segmentation detection video'; fi
}

# supported PYTHON [NEWEST]: whether it runs, and is of version 3.10 to 3.NEWEST.
supported() {
    "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, ${2:-13}))" >/dev/null 2>&1
}

# The newest Python that PyTorch has builds for, and how to say it.
newest_python() { if [[ $STACK == openmmlab ]]; then echo 11; else echo 13; fi; }
versions() {
    if [[ $STACK == openmmlab ]]; then echo '3.10 or 3.11 (PyTorch 2.1 has no builds for later ones)'; else
        echo '3.10 to 3.13'
    fi
}

make_venv() {
    local folder="$1" candidate candidates output base=''
    candidates=(python3 python3.12 python3.11 python3.10 python3.13 python)
    # Commands of pyenv may exist without running anything; its interpreters do run.
    candidates+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[0123]*/bin/python)
    if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if supported "$candidate" "$(newest_python)"; then base="$candidate" && break; fi
    done
    [[ -n $base ]] ||
        die "no usable Python: ${PYTHON:-python3} is missing, does not run, or is not of version $(versions)." \
            'Install one of them, or name it by PYTHON=/path/to/python3.11 before the command.'
    say "making a virtual environment in ${folder##*/} with $("$base" --version)"
    if ! output=$("$base" -m venv "$folder" 2>&1); then
        rm -rf "$folder"
        tail -n 5 <<<"$output" >&2
        die "$base cannot make a virtual environment: its module venv or ensurepip is missing." \
            'On Debian and Ubuntu: apt-get install python3-venv. Or activate an existing environment.'
    fi
}

# Sets PY, and OWN if the environment is one of the project's.
choose_python() {
    local folder
    if [[ -n ${VIRTUAL_ENV:-} ]]; then
        folder="$VIRTUAL_ENV"
    elif [[ -n ${CONDA_PREFIX:-} ]]; then
        folder="$CONDA_PREFIX"
    else
        folder="$ROOT/.venv"
        if [[ $STACK == openmmlab ]]; then folder="$ROOT/.venv-openmmlab"; fi
        [[ -x $folder/bin/python ]] || make_venv "$folder"
    fi
    PY="$folder/bin/python"
    supported "$PY" || die "$PY is missing or not of version 3.10 to 3.13." \
        'Activate an environment that has one of them; or deactivate this one, delete .venv if it is there, and' \
        'let the project make its own (PYTHON=/path/to/python3.11 chooses the interpreter).'
    say "using $PY ($("$PY" --version))"
    OWN=''
    case "$(cd "$folder" && pwd -P)" in "$ROOT/.venv" | "$ROOT/.venv-openmmlab") OWN=own ;; esac
    PATH="$folder/bin:$PATH"
    export PATH
}

missing() { "$PY" "$ROOT/tools/missing_requirements.py" "$@"; }
packages() { missing --pins "$PINS" "$@"; }

# Sets STACK to that of the environment; an environment is never mixed.
choose_stack() {
    local held stacks
    held=$(missing --held)
    stacks=$(cut -d ' ' -f 1 <<<"$held" | sort -u | paste -sd ' ')
    if [[ $stacks == *' '* ]]; then
        die "this environment mixes both stacks:" "$(cut -d ' ' -f 2- <<<"$held" | paste -sd ',' | sed 's/,/, /g')." \
            'Deactivate it and run the command again: the project makes an environment of its own.'
    elif [[ -n $stacks && -n $STACK && $stacks != "$STACK" ]]; then
        die "this environment holds the stack '$stacks', not '$STACK':" \
            "$(cut -d ' ' -f 2- <<<"$held" | paste -sd ',' | sed 's/,/, /g')." \
            "Nothing was replaced. Leave out --stack $STACK to complete it, or deactivate it and run the command" \
            'again: the project makes an environment of its own.'
    elif [[ -n $stacks && -z $STACK ]]; then
        say "completing the stack '$stacks', which this environment holds"
    fi
    STACK="${stacks:-${STACK:-onedl}}"
    PINS="$REQUIREMENTS/stacks/$STACK.txt"
    if packages "$REQUIREMENTS/torch.txt" 2>/dev/null | grep '^torch=' >/dev/null; then # to be installed
        supported "$PY" "$(newest_python)" ||
            die "the stack '$STACK' needs Python $(versions), and $PY is $("$PY" --version)." \
                'Activate an environment with such a Python, or deactivate this one and name the interpreter by' \
                'PYTHON=/path/to/python3.11 before the command.'
    fi
}

minutes() { printf '%d:%02d min' $(($1 / 60)) $(($1 % 60)); }

# compile_progress LOG SECONDS [JOBS]: files compiled, and the time left at the speed of the SECONDS so far.
compile_progress() {
    local log="$1" seconds="$2" jobs="${3:-2}" counts compiled total width=24 filled left=''
    counts=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | tr -d ' []' || true)
    if [[ -z $counts ]]; then # without ninja, the compiler's command lines are all there is
        compiled=$(grep -cE ' -c [^ ]+\.(cpp|cc|cu) ' "$log" || true)
        if ((compiled)); then printf '%s files compiled, of an unknown number' "$compiled"; fi
        return
    fi
    compiled="${counts%/*}" total="${counts#*/}"
    filled=$((width * compiled / total))
    if ((compiled >= 2 * jobs)); then # no estimate from less
        left=", about $(((seconds * (total - compiled) / compiled + 59) / 60)) min left at this speed"
    fi
    printf '[%s%s] file %s of %s%s' "$(printf '%*s' "$filled" '' | tr ' ' '#')" \
        "$(printf '%*s' $((width - filled)) '' | tr ' ' '.')" "$compiled" "$total" "$left"
}

# run_watched TITLE LOG COMMAND...: run it with its output in LOG, and report progress: on a terminal in one line
# that is redrawn, otherwise every 20 seconds.
run_watched() {
    local title="$1" log="$2" job status=0 start=$SECONDS shown=0 next=20 elapsed compiling='' progress
    shift 2
    set -m # in a separate process group, so an interrupt reaches the compilers as well
    "$@" >"$log" 2>&1 </dev/null &
    job=$!
    set +m
    trap 'kill -- -$job 2>/dev/null; rm -rf "$LOGS"; exit 130' INT TERM
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.2
        elapsed=$((SECONDS - start))
        ((elapsed > shown)) || continue
        shown=$elapsed
        if [[ -z $compiling ]] && grep -q "^ *building '.*' extension" "$log"; then compiling=$elapsed; fi
        [[ -t 1 ]] || ((elapsed >= next)) || continue
        next=$((elapsed + 20))
        progress=''
        if [[ -n $compiling ]]; then
            progress=$(compile_progress "$log" $((elapsed - compiling)) "${MAX_JOBS:-2}")
        fi
        if [[ -t 1 ]]; then printf '\r\033[K'; fi
        printf '   %s: %s%s' "$title" "$(minutes "$elapsed")" "${progress:+ $progress}"
        [[ -t 1 ]] || printf '\n'
    done
    if [[ -t 1 ]]; then printf '\r\033[K'; fi
    wait "$job" || status=$?
    trap - INT TERM
    return "$status"
}

# run_pip TITLE COMMAND ARGUMENTS...: never replaces what missing_requirements.py --constraints lists.
run_pip() {
    local title="$1" command="$2" log="$LOGS/pip-${1//[^a-zA-Z0-9]/-}.log"
    shift 2
    say "$title"
    missing --constraints "$PINS" >"$LOGS/constraints.txt"
    run_watched "$title" "$log" \
        "$PY" -m pip "$command" --disable-pip-version-check --verbose -c "$LOGS/constraints.txt" "$@" && return
    printf '\nlast lines of %s:\n' "$log" >&2
    tail -n 20 "$log" | cut -c 1-300 >&2
    if grep -qE 'Retrying \(|NewConnectionError|Could not fetch URL|ProxyError' "$log"; then
        die "$title failed: pip cannot reach a package index." \
            'Connect to the network or configure a mirror for pip, then run the same command again.'
    elif grep -qE 'ResolutionImpossible|conflicting dependencies' "$log"; then
        die "$title failed: it does not fit what this environment holds, which is never replaced." \
            'Deactivate it, so that the project makes its own, and run the same command again.'
    fi
    die "$title failed; the lines above say why." "${REMEDY:-Run the same command again.}"
}

pip_install() {
    local title="installing $1"
    shift
    run_pip "$title" install "$@"
}

check_compiler() {
    command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler (${CXX:-c++}), which mmcv's operators need." \
        'On Debian and Ubuntu: apt-get install g++. Elsewhere set CXX to yours. Then run the same command again.' \
        'Classification and video need no operators: bash tools/install.sh classification video'
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

# Names where a build of mmcv with operators may be had without compiling.
hint_prebuilt() {
    local build
    [[ $(uname -sm) == 'Linux x86_64' ]] || return 0
    build=$("$PY" -c 'import sys, torch
print(torch.__version__.split("+")[0], torch.version.cuda or "cpu", "3.%d" % sys.version_info[1])') || return 0
    case "$STACK $build" in
        'openmmlab 2.1.'*' cpu 3.1'[01] | 'openmmlab 2.1.'*' 11.8 3.1'[01] | 'openmmlab 2.1.'*' 12.1 3.1'[01])
            say 'OpenMMLab publishes builds of mmcv 2.1 for this PyTorch. To use one, stop here, run' \
                "'$PY -m pip install openmim', '$PY -m mim install mmcv==2.1.0', then this command again" ;;
        'onedl 2.'[4-9]'.'*' '*' 3.10' | 'onedl 2.9.0 12.9 3.12')
            say 'the forks publish builds of mmcv for some versions of PyTorch and CUDA. To use one, stop here, run' \
                "'$PY -m pip install onedl-mim', '$PY -m mim install onedl-mmcv', then this command again" ;;
    esac
}

# The requirement of mmcv: with operators, or without ('none').
mmcv_requirement() {
    if [[ ${1:-} == none && $STACK == openmmlab ]]; then
        grep '^mmcv-lite==' "$PINS" | sed 's/ *#.*//'
    else
        grep -hE '^(onedl-)?mmcv==' "$PINS" "$REQUIREMENTS/$STACK.txt"
    fi
}

# mmcv without operators. pip's cache of wheels does not distinguish it from the complete one: it is not used.
install_mmcv_without_operators() {
    if [[ $STACK == openmmlab ]]; then
        MMCV_WITH_OPS=0 pip_install 'mmcv without operators' --no-deps --no-cache-dir --no-build-isolation \
            "$(mmcv_requirement none)"
    else # isolated from PyTorch, the fork has nothing to compile against
        pip_install 'mmcv without operators' --no-deps --no-cache-dir "$(mmcv_requirement none)"
    fi
}

# build_mmcv OPTIONS...: the wheel of mmcv with operators, in $LOGS/wheel.
build_mmcv() {
    rm -rf "$LOGS/wheel"
    run_pip "building mmcv" wheel --no-deps --no-build-isolation -w "$LOGS/wheel" "$@" "$(mmcv_requirement)"
}

install_mmcv() (
    local rivals output
    export MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
    # With a visible GPU, mmcv would require the CUDA compiler.
    if [[ -z ${CUDA_HOME:-} ]] && ! command -v nvcc >/dev/null; then export CUDA_VISIBLE_DEVICES=; fi
    REMEDY='If a compiler was "Killed" for want of memory: MAX_JOBS=1 before the command. It starts over.'
    hint_prebuilt
    say "mmcv's operators are compiled, unless pip has kept an earlier build; an estimate of the time will follow"
    build_mmcv
    if ! "$PY" -m zipfile -l "$LOGS"/wheel/*.whl | grep '^mmcv/_ext' >/dev/null; then
        say 'the build that pip kept has no operators: compiling'
        build_mmcv --no-cache-dir
    fi
    rivals=$(missing --held | cut -d ' ' -f 2 | grep mmcv || true)
    # shellcheck disable=SC2086  # a list of names, to be split
    if [[ -n $rivals ]]; then "$PY" -m pip uninstall --disable-pip-version-check -q -y $rivals; fi
    pip_install mmcv --no-deps "$LOGS"/wheel/*.whl
    if ! "$PY" -c 'import mmcv.ops' >/dev/null 2>&1; then
        say 'the build that pip kept was compiled for another PyTorch: compiling again'
        build_mmcv --no-cache-dir
        pip_install mmcv --no-deps --force-reinstall "$LOGS"/wheel/*.whl
        output=$("$PY" -c 'import mmcv.ops' 2>&1) ||
            die "mmcv's operators were compiled, but do not import: $(tail -n 1 <<<"$output")"
    fi
)

# The packages of the tasks, without mmcv; their dependencies are in the files of the tasks.
libraries() {
    local names='mmengine' task
    for task in $TASKS; do
        case $task in
            classification) names+='|mmpretrain' ;;
            segmentation) names+='|mmsegmentation' ;;
            detection) names+='|mmdet|imaug' ;;
            video) names+='|mmaction2' ;;
        esac
    done
    local files=("$REQUIREMENTS/$STACK.txt")
    if [[ -f $REQUIREMENTS/$STACK-no-deps.txt ]]; then files+=("$REQUIREMENTS/$STACK-no-deps.txt"); fi
    packages "${files[@]}" | grep -E "^(onedl-)?($names)" || true
}

# mmcv_plan: 'compile', 'light' (without operators) or nothing to do.
mmcv_plan() {
    local state need=''
    if [[ $TASKS == *segmentation* || $TASKS == *detection* ]]; then need=yes; fi
    state=$(missing --operators)
    if [[ -z $state ]]; then
        if [[ -n $need ]]; then echo compile; else echo light; fi
    elif [[ -n $need && $state == none ]]; then
        [[ -n $OWN ]] || return 1
        echo compile
    fi
}

# shellcheck disable=SC2086  # lists of requirements without spaces, to be split
install_environment() {
    parse_arguments "$@"
    LOGS="$(mktemp -d "${TMPDIR:-/tmp}/resformer-mm-install.XXXXXX")"
    choose_python
    choose_stack
    local files=("$REQUIREMENTS"/{torch,classification}.txt) common build libraries mmcv project tests='' task
    for task in $TASKS; do files+=("$REQUIREMENTS/$task.txt"); done
    if [[ -n $EVERYTHING$TESTS ]]; then files+=("$REQUIREMENTS/analysis.txt"); fi
    common=$(packages "${files[@]}")
    libraries=$(libraries)
    mmcv=$(mmcv_plan) ||
        die "mmcv is installed without operators in $(dirname "$(dirname "$PY")")," \
            'and segmentation and detection need them.' \
            'It was not replaced, because this environment is yours. To have it replaced:' \
            "$PY -m pip uninstall $(missing --held | cut -d ' ' -f 2 | grep mmcv), then the same command again." \
            'Without operators: bash tools/install.sh classification video'
    # What is built without isolation needs these versions; a user's own are only replaced where it must be.
    if [[ $mmcv == compile || (-n $mmcv && -n $OWN) || ($mmcv == light && $STACK == openmmlab) ]]; then
        build=$(packages --exact "$REQUIREMENTS/build.txt")
    else
        build=$(packages "$REQUIREMENTS/build.txt")
    fi
    project=$(missing --project "$ROOT")
    if [[ -n $TESTS ]]; then
        install_browser
        tests=$(packages --exact "$REQUIREMENTS"/{tests,demo,deployment,features}.txt)
    fi
    if [[ -z $build$common$libraries$mmcv$tests$project ]]; then
        rm -rf "$LOGS"
        say 'everything needed is installed'
        return
    fi

    if [[ $mmcv == compile ]]; then check_compiler; fi
    "$PY" -m pip --version >/dev/null 2>&1 || "$PY" -m ensurepip >/dev/null 2>&1 ||
        die "$PY has no pip." 'Install pip into that environment, then run the same command again.'
    if [[ -n $build$common ]]; then pip_install 'PyTorch and common packages' $build $common; fi
    check_opencv
    if [[ $mmcv == light ]]; then install_mmcv_without_operators; fi
    if [[ -n $libraries ]]; then
        pip_install 'the OpenMMLab packages' --no-deps --no-build-isolation $libraries
    fi
    if [[ -n $project ]]; then
        pip_install 'resformer-mm in development mode' --no-deps --no-build-isolation -e "$ROOT"
    fi
    if [[ $mmcv == compile ]]; then install_mmcv; fi
    if [[ -n $tests ]]; then pip_install 'test tools' $tests; fi
    rm -rf "$LOGS"
    say "the environment is ready (stack '$STACK')"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    install_environment "$@"
    if [[ -z ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} ]]; then
        say "before other commands: source $(dirname "$PY")/activate"
    fi
fi
