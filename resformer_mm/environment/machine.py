"""Operating system, processor, GPUs, and the environment variables that change what they do."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from resformer_mm.environment.facts import Facts, first_line
from resformer_mm.environment.half_precision import product_ratio

__all__ = ['cpu_flags', 'gpus', 'has_native_bfloat16', 'processor', 'system', 'variables']

CPU_INFO = Path('/proc/cpuinfo')
# Name in the flags of Linux -> the usual one. x86, then ARM.
INSTRUCTION_SETS = {
    'avx2': 'AVX2',
    'avx512f': 'AVX-512',
    'avx512_vnni': 'AVX512-VNNI',
    'avx512_bf16': 'AVX512-BF16',
    'avx512_fp16': 'AVX512-FP16',
    'amx_tile': 'AMX',
    'amx_bf16': 'AMX-BF16',
    'asimd': 'NEON',
    'sve': 'SVE',
    'bf16': 'BF16',
}
BFLOAT16 = {'avx512_bf16', 'amx_bf16', 'bf16'}
PREFIXES = (
    'ATEN_',
    'CUDA_',
    'GLOO_',
    'GOMP_',
    'KMP_',
    'MKL_',
    'MMCV_',
    'MMENGINE_',
    'NCCL_',
    'OMP_',
    'ONEDNN_',
    'PYTORCH_',
    'RESFORMER_MM_',
    'TORCH',
)
VARIABLES = (
    'CONDA_PREFIX',
    'LD_LIBRARY_PATH',
    'LD_PRELOAD',
    'LOCAL_RANK',
    'MASTER_ADDR',
    'MASTER_PORT',
    'PYTHONPATH',
    'RANK',
    'VIRTUAL_ENV',
    'WORLD_SIZE',
)


def system() -> Facts:
    """Describe the operating system, Python and the compilers that mmcv's operators would be built with."""
    compilers = {name: first_line([name, '--version']) for name in ('c++', 'nvcc') if shutil.which(name)}
    facts: Facts = {
        'operating system': _operating_system(),
        'python': f'{platform.python_version()} ({platform.python_implementation()}), {sys.executable}',
    }
    if compilers.get('c++'):
        facts['c++'] = str(compilers['c++'])
    if 'nvcc' in compilers:
        facts['nvcc'] = _nvcc_release()
    if found := gpus():
        facts['NVIDIA GPUs'] = found
    return facts


def _operating_system() -> str:
    name = platform.platform()
    try:
        return f'{platform.freedesktop_os_release()["PRETTY_NAME"]}, {name}'
    except (OSError, KeyError):
        return name


def _nvcc_release() -> str:
    try:
        output = subprocess.run(['nvcc', '--version'], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return 'cannot be run'
    release = re.search(r'release [\d.]+', output)
    return release[0] if release else 'unknown release'


def processor() -> Facts:
    """Describe the processor: model, cores, memory, instruction sets, and whether it computes in bfloat16."""
    flags = cpu_flags()
    return {
        'model': _field('model name') or platform.processor() or platform.machine(),
        'cores': _cores(),
        'memory': _memory(),
        'instruction sets': [name for flag, name in INSTRUCTION_SETS.items() if flag in flags] or 'unknown',
        'bfloat16': _bfloat16(),
    }


def cpu_flags() -> frozenset[str]:
    """Return the features that Linux reports of the processor; empty on other systems."""
    return frozenset((_field('flags') or _field('Features') or '').split())


def has_native_bfloat16() -> bool | None:
    """Return whether the processor multiplies in bfloat16 itself; None if that cannot be found out."""
    flags = cpu_flags()
    return bool(BFLOAT16 & flags) if flags else None


def _bfloat16() -> str:
    native = has_native_bfloat16()
    if native is False:
        return 'emulated: --amp with bfloat16 is slower than float32 on this CPU'
    instructions = 'native' if native else 'unknown instructions'
    ratio = product_ratio('bfloat16')
    if ratio is None:
        return instructions
    return f'{instructions}, a matrix product takes {ratio:.2g} times as long as in float32'


def _field(name: str) -> str | None:
    try:
        text = CPU_INFO.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
    match = re.search(rf'^{name}\s*:\s*(.+)$', text, re.MULTILINE)
    return match[1].strip() if match else None


def _cores() -> str:
    total = os.cpu_count()
    if not hasattr(os, 'sched_getaffinity'):
        return f'{total}'
    return f'{total}, of which this process may use {len(os.sched_getaffinity(0))}'


def _memory() -> str:
    try:
        size = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):
        return 'unknown'
    return f'{size / 2**30:.1f} GiB'


def gpus() -> list[str]:
    """Return the GPUs that the driver of NVIDIA reports, whether PyTorch can use them or not."""
    query = ['nvidia-smi', '--query-gpu=name,memory.total,driver_version', '--format=csv,noheader']
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


def variables() -> Facts:
    """Return the environment variables that change how PyTorch and the libraries run."""
    names = sorted(name for name in os.environ if name in VARIABLES or name.startswith(PREFIXES))
    return {name: os.environ[name] for name in names}
