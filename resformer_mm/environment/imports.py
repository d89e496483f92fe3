"""What can be imported and used: PyTorch and its devices, compiled operators, tasks."""

from __future__ import annotations

import contextlib
import importlib
from importlib.util import find_spec
from types import ModuleType

from resformer_mm.environment.facts import Facts, describe_error
from resformer_mm.environment.machine import gpus

__all__ = ['apply_workarounds', 'devices', 'operators', 'pytorch', 'tasks']


def apply_workarounds() -> None:
    """Prepare the imports as ``import resformer_mm`` does; a failure shows in the sections of the report."""
    with contextlib.suppress(Exception):
        importlib.import_module('resformer_mm.compat').apply()


def pytorch() -> Facts:
    """Describe the build of PyTorch, and the versions of torchvision and MMEngine as they are imported."""
    import torch

    return {
        'torch': torch.__version__,
        'built for': _platform(),
        'CPU kernels': torch.backends.cpu.get_cpu_capability(),
        'threads': f'{torch.get_num_threads()}, {torch.get_num_interop_threads()} between operations',
        'torchvision': _version('torchvision'),
        'mmengine': _version('mmengine'),
        'cv2': _version('cv2'),
    }


def _platform() -> str:
    import torch

    if torch.version.hip is not None:
        return f'ROCm {torch.version.hip}'
    if torch.version.cuda is not None:
        return f'CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}'
    return 'CPU'


def _version(module: str) -> str:
    try:
        return importlib.import_module(module).__version__
    except Exception as error:  # broken builds fail in any way
        return describe_error(error)


def devices() -> Facts:
    """Describe the devices that PyTorch can use."""
    import torch

    facts: Facts = {}
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bfloat16 = 'bfloat16' if torch.cuda.is_bf16_supported() else 'no bfloat16'
        size, capability = f'{device.total_memory / 2**30:.1f} GiB', f'{device.major}.{device.minor}'
        facts[f'cuda:{index}'] = f'{device.name}, {size}, capability {capability}, {bfloat16}'
    if torch.backends.mps.is_available():
        facts['mps'] = 'available'
    facts['cpu'] = 'available'
    if gpus() and not torch.cuda.is_available():
        facts['cuda'] = f'not available, although the driver reports GPUs: PyTorch is built for {_platform()}'
    return facts


def operators() -> Facts:
    """Describe whether the compiled operators of torchvision and mmcv load."""
    return {'torchvision': _torchvision_operators(), 'mmcv': _mmcv_operators()}


def _torchvision_operators() -> str:
    if find_spec('torchvision') is None:
        return 'not installed'
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        return f'do not load: {describe_error(error)}'
    return 'load'


def _mmcv_operators() -> str:
    if find_spec('mmcv') is None:
        return 'not installed'
    try:
        if find_spec('mmcv._ext') is None:
            return 'not compiled; detection needs them'
        ops = importlib.import_module('mmcv.ops')
        compiler, cuda = ops.get_compiler_version(), ops.get_compiling_cuda_version()
    except Exception as error:
        return f'do not load: {describe_error(error)}'
    return f'compiled with {compiler}, {cuda if cuda == "not available" else f"CUDA {cuda}"}'


def tasks() -> Facts:
    """Import what every task needs, and describe which of them can be used."""
    libraries = importlib.import_module('resformer_mm.libraries')
    return {name: _task(name, libraries) for name in libraries.TASKS}


def _task(name: str, libraries: ModuleType) -> str:
    task = libraries.TASKS[name]
    library = task.model.partition('.')[0]
    if find_spec(library) is None:
        return f'not usable: {library} is not installed'
    try:
        libraries.import_library(library, f'the task {name!r}')
        manifest = importlib.import_module(f'resformer_mm.tasks.{name}')
        tables = [value for key, value in vars(manifest).items() if key.isupper() and isinstance(value, dict)]
        for adapter in (name for table in tables for name in table):
            getattr(manifest, adapter)  # imports its module
        libraries.import_name(task.inferencer)
    except Exception as error:  # libraries check their versions with assertions
        return f'not usable: {describe_error(error)}'
    return f'usable, with {library}'
