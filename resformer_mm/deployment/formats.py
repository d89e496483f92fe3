"""File formats ``torch.export`` and ONNX, dynamic in all free axes of the input."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch

from .model import DeployableModel, ExportError
from .runtimes import RUNTIMES, Run, load_program, require

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# The opsets that PyTorch 2.13 converts to directly; the comparison is tested with all of them.
OPSETS = range(18, 26)
# The first versions of PyTorch whose files were right at all sizes, for every model that the tests export.
# From 2.10 on, programs without windows are right too; those with windows refuse an image of one window.
ONNX_VERSION = '2.10'
PROGRAM_VERSION = '2.13'


class Format(Protocol):
    """Format of the file of an exported model."""

    suffix: str

    def write(self, model: DeployableModel, path: Path) -> None:
        """Export the model to a file."""

    def load(self, path: Path) -> Run:
        """Return the exported model as a function from an input to its outputs."""


def capture(model: DeployableModel) -> ExportedProgram:
    """Trace a model for all sizes of its free axes, e.g. all heights and widths of at least one patch.

    Raises:
        ExportError: the model branches on the size, or cannot be traced.
    """
    smallest = model.smallest
    sizes = {
        axis: torch.export.Dim(
            name, min=smallest[axis], max=model.longest_side if name in ('height', 'width') else None
        )
        for axis, name in model.axes.items()
    }
    try:
        with torch.no_grad(), _size_one_as_any_other(), _quiet():
            return torch.export.export(model, (model.example(),), dynamic_shapes=(sizes,), strict=False)
    except RuntimeError as error:
        raise ExportError(
            f'{type(model.model).__name__} cannot be exported for all sizes of its input: '
            f'{_summarize_error(error)}'
        ) from error


class ProgramFormat:
    """Files of ``torch.export``, for PyTorch without this package and for ahead-of-time compilation.

    They run on the device of the exported model.

    Raises:
        ExportError: this version of PyTorch cannot write them.
    """

    suffix = '.pt2'

    def __init__(self) -> None:
        _require_pytorch('files of torch.export', PROGRAM_VERSION)

    def write(self, model: DeployableModel, path: Path) -> None:
        """Export the model, with its metadata as the extra file 'metadata.json'.

        Raises:
            ExportError: the model has operators that PyTorch alone does not know.
        """
        if self.suffix not in model.formats:
            raise ExportError(
                f'{type(model.model).__name__} has operators that PyTorch alone does not know: export it as '
                'an ONNX file'
            )
        with _quiet():
            torch.export.save(
                capture(model), path, extra_files={'metadata.json': json.dumps(model.metadata())}
            )

    def load(self, path: Path) -> Run:
        """Return the program as a function."""
        return load_program(path).run


class OnnxFormat:
    """ONNX files, with the metadata as model properties.

    Args:
        opset: version of the operator set; older runtimes need a lower one.
        output_names: names of the outputs; by default those of :meth:`DeployableModel.output_names`.
        runtime: runtime of the comparison with PyTorch: 'onnxruntime' or 'openvino'.

    Raises:
        ImportError: a package that writes ONNX is missing; the message names the extra.
        ExportError: this version of PyTorch cannot write them, or does not convert to the opset.
    """

    suffix = '.onnx'

    def __init__(
        self, opset: int = 20, output_names: Sequence[str] | None = None, runtime: str = 'onnxruntime'
    ) -> None:
        _require_pytorch('ONNX files', ONNX_VERSION)
        require('onnx', 'onnxscript', extra='deployment', needed_by='ONNX files')
        if opset not in OPSETS:
            raise ExportError(f'opset {opset} is not supported: choose from {OPSETS[0]} to {OPSETS[-1]}')
        if RUNTIMES.get(runtime, ('',))[0] != self.suffix:
            raise ExportError(f'runtime {runtime!r} does not run ONNX files: choose onnxruntime or openvino')
        self.opset = opset
        self.output_names, self.runtime = output_names, runtime

    def write(self, model: DeployableModel, path: Path) -> None:
        """Export the model.

        Raises:
            ExportError: an operation has no ONNX counterpart, or the output names do not fit the model.
        """
        program = capture(model)
        number = len(program.graph_signature.user_outputs)
        names = self.output_names or model.output_names(number)
        if not len(names) == len(set(names)) == number:
            raise ExportError(f'the number of outputs is {number}: give as many different names, not {names}')
        try:
            with _quiet():
                exported = torch.onnx.export(
                    program,
                    dynamo=True,
                    opset_version=self.opset,
                    input_names=[model.input_name],
                    output_names=list(names),
                    dynamic_shapes=(dict(model.axes),),  # the program is traced already: these are names only
                    custom_translation_table=dict(model.translations()),
                    verbose=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f'{type(model.model).__name__} has no ONNX counterpart: {_untranslated(error)}'
            ) from error
        result = cast(torch.onnx.ONNXProgram, exported)  # None is for the exporter without dynamo
        result.model.metadata_props.update(model.metadata())
        result.save(path, external_data=False)

    def load(self, path: Path) -> Run:
        """Return the file as a function that runs in the runtime on the CPU.

        Raises:
            ImportError: the runtime is missing.
        """
        return RUNTIMES[self.runtime][1](path, None).run


def _require_pytorch(files: str, version: str) -> None:
    if torch.__version__ < version:
        raise ExportError(
            f'{files} for all image sizes need PyTorch {version} or later, this is {torch.__version__}: '
            'export the checkpoint in an environment with a later version'
        )


def _size_one_as_any_other() -> contextlib.AbstractContextManager:
    """Let a program also accept a batch of one, and a grid one token high or wide.

    By default PyTorch specialises sizes of one and excludes them. ``torch.onnx.export`` of a module sets the
    same switch; the comparison of the written file covers these sizes.
    """
    import torch.fx.experimental._config as symbolic_shapes_config

    return symbolic_shapes_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # PyTorch itself uses its deprecated tree specifications.
        warnings.filterwarnings('ignore', message='.*LeafSpec', category=FutureWarning)
        yield


def _untranslated(error: Exception) -> str:
    """Return the operator that an error of the conversion to ONNX names, or the lines with its cause."""
    operator = re.search(r'target=torch\.ops\.([\w.]+)', str(error))
    if operator is None:
        return _summarize_error(error)
    return f'the operator {operator[1]} cannot be converted with these arguments'


def _summarize_error(error: Exception) -> str:
    """Return the lines of an error message of PyTorch that name the cause."""
    lines = [line.strip() for line in str(error).splitlines()]
    violations = [line.removeprefix('- ') for line in lines if line.startswith('- ')]
    return '; '.join(violations[:2]) or next((line for line in lines if line), type(error).__name__)
