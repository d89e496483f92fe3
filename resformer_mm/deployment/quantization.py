"""Integer ONNX files: 8 bits for weights and activations, calibrated on images."""

from __future__ import annotations

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from resformer_mm.files import write_atomically

from .calibration import CalibrationImages
from .evaluation import QUANTIZATION
from .model import ExportError
from .runtimes import LoadedFile, load_file, require

if TYPE_CHECKING:
    import onnx

METHODS = ('minmax', 'entropy', 'percentile')
OPERATORS = ('MatMul', 'Gemm', 'Conv')
# Parts of a model that may stay in float32; by default all do.
FLOAT_PARTS = {
    'attention': 'products of queries, keys and values',
    'depthwise': 'convolutions of single channels, as in position embeddings',
    'patch_embedding': 'the projection of the pixels',
    'last_layer': 'the layers that compute the outputs',
}


@dataclass(frozen=True)
class Agreement:
    """How the outputs of an integer file agree with those of the float32 file at a resolution.

    Attributes:
        resolution: in pixels.
        images: number of images.
        same_class: fraction of the images, or of their pixels, with the same largest logit; NaN if the file
            has no logits.
        error: norm of the difference of all outputs, relative to the norm of the outputs.
    """

    resolution: int
    images: int
    same_class: float
    error: float


def quantize(
    source: str | Path,
    target: str | Path,
    images: CalibrationImages,
    method: str = 'minmax',
    float_parts: Collection[str] = tuple(FLOAT_PARTS),
) -> list[Agreement]:
    """Write an ONNX file with weights of int8, one scale per output channel, and activations of uint8.

    Layers with weights are computed in integers; everything else stays in float32. The ranges of the
    activations are those on the images.

    Args:
        source: float32 ONNX file of this package.
        target: the integer file; its folder is created.
        images: images for the calibration.
        method: how ranges are chosen: 'minmax', 'entropy' or 'percentile' (of 99.999).
        float_parts: parts that stay in float32, of :data:`FLOAT_PARTS`.

    Returns:
        The agreement with the float32 file on the same images.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnx or onnxruntime is missing.
        ExportError: the file was not written by this package, has been quantised already, is of another model
            than the images, or cannot be quantised.
        OSError: the file cannot be written.
    """
    require('onnx', 'onnxruntime', extra='deployment', needed_by='integer ONNX files')
    import onnx

    source = Path(source)
    original = load_file(source, 'onnxruntime')
    if QUANTIZATION in original.metadata:
        raise ExportError(f'{source} has been quantised already: give the float32 file')
    _check_model(original, images)
    with write_atomically(target) as partial:
        with tempfile.TemporaryDirectory() as folder:
            prepared = Path(folder, 'prepared.onnx')
            _prepare(source, prepared)
            excluded = [
                node
                for part, nodes in find_parts(onnx.load(prepared)).items()
                if part in float_parts
                for node in nodes
            ]
            _quantize(prepared, partial, images, method, excluded)
        _describe(partial, original.metadata, images, method, float_parts)
        return compare_files(original, load_file(partial, 'onnxruntime'), images)


def compare_files(original: LoadedFile, quantized: LoadedFile, images: CalibrationImages) -> list[Agreement]:
    """Return the agreement of two files at every resolution.

    Raises:
        ExportError: an output of the integer file is not finite.
    """
    has_logits = images.model.output_names(1) in (['logits'], ['scores'])
    result = []
    for resolution in images.loaders:
        same, squares, total = [], 0.0, 0.0
        for image in images.at(resolution):
            expected, outputs = original.run(image), quantized.run(image)
            for a, b in zip(outputs, expected):
                squares += float((a.double() - b.double()).square().sum())
                total += float(b.double().square().sum())
            if has_logits:
                same.append((outputs[0].argmax(1) == expected[0].argmax(1)).float().mean().item())
        if not math.isfinite(squares):
            raise ExportError(f'at {resolution} pixels the integer file gives values that are not finite')
        fraction = sum(same) / len(same) if same else math.nan
        result.append(Agreement(resolution, len(images.indices), fraction, math.sqrt(squares / total)))
    return result


def find_parts(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the names of the nodes of every part of :data:`FLOAT_PARTS`."""
    weights = {tensor.name for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in OPERATORS]
    convolutions = [node for node in layers if node.op_type == 'Conv']
    groups = {
        node.name: next((item.i for item in node.attribute if item.name == 'group'), 1)
        for node in convolutions
    }
    parts = {
        'attention': [
            node for node in layers if node.op_type == 'MatMul' and not weights.intersection(node.input)
        ],
        'depthwise': [node for node in convolutions if groups[node.name] > 1],
        'patch_embedding': [node for node in convolutions if 'patch_embed.proj' in node.input[1]],
        'last_layer': list(_last_layers(model)),
    }
    return {part: [node.name for node in nodes] for part, nodes in parts.items()}


def _last_layers(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the layers from which the outputs are computed without another layer in between."""
    producers = {name: node for node in model.graph.node for name in node.output}
    pending, seen = [output.name for output in model.graph.output], set()
    while pending:
        node = producers.get(pending.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in OPERATORS:
            yield node
        else:
            pending += node.input


class _Reader:
    """Gives images to onnxruntime's calibration, a part at a time, so that memory stays small."""

    def __init__(self, name: str, images: CalibrationImages) -> None:
        self.name, self.images = name, images
        self._all = iter(images)
        self._part: Iterator[Tensor] = iter(())

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the next images; onnxruntime asks for them in order."""
        self._part = islice(self._all, end_index - start_index)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input, or None at the end of the part."""
        image = next(self._part, None)
        return None if image is None else {self.name: image.numpy()}


def _check_model(file: LoadedFile, images: CalibrationImages) -> None:
    model = images.model
    size = 4 * model.patch_size
    image = model.random_input(1, size, size, torch.Generator().manual_seed(0))
    try:
        model.difference(file.run(image.float()), model.predict_as_trained(image))
    except Exception as error:  # also of the runtime
        output = ''.join(f' with --{name} {value}' for name, value in model.evaluation.items())
        raise ExportError(
            f'{file.path} is of another model than the config, or has another output ({error}): export a '
            f'checkpoint of the config{output}'
        ) from error


def _prepare(source: Path, target: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(source, target, skip_symbolic_shape=True)
    except Exception as error:  # of protobuf and of the runtime
        raise ExportError(f'{source} cannot be prepared for quantisation: {error}') from error


def _quantize(
    source: Path, target: Path, images: CalibrationImages, method: str, excluded: list[str]
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = dict(
        minmax=CalibrationMethod.MinMax,
        entropy=CalibrationMethod.Entropy,
        percentile=CalibrationMethod.Percentile,
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # calibration prints what it does
            quantize_static(
                source,
                target,
                _Reader(images.model.input_name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=excluded,
                calibrate_method=methods[method],
                extra_options={'CalibStridedMinMax': 1, 'CalibTensorRangeSymmetric': False},
            )
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of protobuf and of the runtime
        raise ExportError(f'onnxruntime cannot quantise the file: {error}') from error


def _describe(
    path: Path,
    metadata: Mapping[str, str],
    images: CalibrationImages,
    method: str,
    float_parts: Collection[str],
) -> None:
    """Write the metadata of the float32 file, and how it was quantised, into the integer file."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    quantization = {
        'weights': 'int8, one scale per output channel',
        'activations': 'uint8',
        'float32': sorted(float_parts),
        'calibration': method,
        'images': len(images.indices),
        'split': images.split,
        'resolutions': list(images.loaders),
        'onnxruntime': onnxruntime.__version__,
    }
    onnx.helper.set_model_props(model, {**metadata, QUANTIZATION: json.dumps(quantization)})
    onnx.save(model, path)
