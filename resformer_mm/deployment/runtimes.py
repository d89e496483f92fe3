"""Runtimes of exported files on the CPU: onnxruntime, OpenVINO and PyTorch."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resformer_mm.compat.openvino_telemetry import import_openvino

from .model import ExportError

Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class LoadedFile:
    """An exported file in a runtime.

    Attributes:
        path: the file.
        runtime: name and version of the runtime.
        metadata: metadata of the file.
        run: function from a float32 batch to the outputs.
    """

    path: Path
    runtime: str
    metadata: Mapping[str, str]
    run: Run


def load_onnxruntime(path: Path, threads: int | None = None) -> LoadedFile:
    """Load an ONNX file in onnxruntime.

    Args:
        path: the file.
        threads: number of threads; by default the runtime decides.

    Raises:
        ImportError: onnxruntime is missing.
        ExportError: the runtime refuses the file.
    """
    require('onnxruntime', extra='deployment', needed_by='ONNX files')
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no common class
        raise ExportError(f'{path} cannot be run by onnxruntime: {_first_line(error)}') from error
    name = session.get_inputs()[0].name
    metadata = dict(session.get_modelmeta().custom_metadata_map)

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(np.asarray(x)) for x in session.run(None, {name: image.cpu().numpy()})]

    return LoadedFile(path, f'onnxruntime {onnxruntime.__version__}', metadata, run)


def load_openvino(path: Path, threads: int | None = None) -> LoadedFile:
    """Load an ONNX file in OpenVINO, in the precision of the file.

    By default OpenVINO computes float32 models in bfloat16 where the processor can; here it does not. Its
    telemetry is off.

    Args:
        path: the file.
        threads: number of threads; by default the runtime decides.

    Raises:
        ImportError: OpenVINO is missing.
        ExportError: the runtime refuses the file.
    """
    require('openvino', extra='openvino', needed_by='the runtime openvino')
    require('onnx', extra='deployment', needed_by='ONNX files')
    import onnx

    openvino = import_openvino()
    settings: dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
    if threads is not None:
        settings['INFERENCE_NUM_THREADS'] = threads
    try:
        metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        model = openvino.Core().compile_model(str(path), 'CPU', settings)
    except Exception as error:  # protobuf, and OpenVINO for every cause, raise classes of their own
        raise ExportError(f'{path} cannot be run by OpenVINO: {_first_line(error)}') from error
    request = model.create_infer_request()

    def run(image: Tensor) -> list[Tensor]:
        results = request.infer([image.cpu().numpy()])
        return [torch.from_numpy(np.array(results[output])) for output in model.outputs]

    return LoadedFile(path, f'OpenVINO {version("openvino")}', metadata, run)


def load_program(path: Path, threads: int | None = None) -> LoadedFile:
    """Load a file of ``torch.export``.

    Args:
        path: the file.
        threads: must be the number of PyTorch's threads, which the program shares.

    Raises:
        ExportError: PyTorch refuses the file.
    """
    extra = {'metadata.json': ''}
    try:
        module = torch.export.load(path, extra_files=extra).module()
        metadata = json.loads(extra['metadata.json'] or '{}')
    except Exception as error:  # errors of zip, JSON and PyTorch
        raise ExportError(f'{path} cannot be loaded by torch.export: {_first_line(error)}') from error

    def run(image: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return torch.utils._pytree.tree_flatten(module(image))[0]

    return LoadedFile(path, f'torch.export {torch.__version__}', metadata, run)


# Name -> suffix of the files, and function that loads them. The first one of a suffix is the default.
RUNTIMES: dict[str, tuple[str, Callable[[Path, int | None], LoadedFile]]] = {
    'onnxruntime': ('.onnx', load_onnxruntime),
    'openvino': ('.onnx', load_openvino),
    'torch': ('.pt2', load_program),
}


def load_file(path: str | Path, runtime: str | None = None, threads: int | None = None) -> LoadedFile:
    """Load a file that the export tools of this package wrote.

    Args:
        path: the file.
        runtime: one of :data:`RUNTIMES`; by default the first one for the suffix of the file.
        threads: number of threads; by default the runtime decides.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the runtime is missing; the message says how to install it.
        ExportError: the file has another suffix, was not written by this package, or cannot be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no exported file {path}')
    fitting = [name for name, (suffix, _) in RUNTIMES.items() if suffix == path.suffix]
    if not fitting:
        suffixes = ' or '.join(dict.fromkeys(suffix for suffix, _ in RUNTIMES.values()))
        raise ExportError(f'{path} is not an exported file: give one that ends in {suffixes}')
    if runtime is not None and runtime not in fitting:
        raise ExportError(f'{path} cannot be run by {runtime}: choose from {", ".join(fitting)}')
    loaded = RUNTIMES[runtime or fitting[0]][1](path, threads)
    if 'resformer_mm_version' not in loaded.metadata:
        raise ExportError(
            f'{path} was not written by the export tools of resformer_mm: its metadata has no '
            'resformer_mm_version. Export the checkpoint with tools/deployment/export_onnx.py'
        )
    return loaded


def require(*modules: str, extra: str, needed_by: str) -> None:
    """Check that packages can be imported.

    Raises:
        ImportError: one is missing; the message names the extra that installs it.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        are = 'need' if needed_by.endswith('s') else 'needs'
        raise ImportError(
            f"{needed_by} {are} {' and '.join(missing)}: pip install 'resformer-mm[{extra}]', or pip install "
            f'{" ".join(missing)}'
        )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
