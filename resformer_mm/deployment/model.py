"""Trained models and their normalisation as one module."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel, ImgDataPreprocessor
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from resformer_mm.config.inference_dtype import InferenceDtype
from resformer_mm.engine.class_meta import class_meta, names_fit
from resformer_mm.engine.inference_dtype import compute_in
from resformer_mm.libraries import scope_of
from resformer_mm.models import ResFormer
from resformer_mm.models.layers import (
    FlexiblePatchEmbed,
    LearnedPositionEmbedding,
    PatchEmbed,
    TokenMerger,
    fix_patches,
)
from resformer_mm.version import __version__

from .resizing import resizing


class ExportError(ValueError):
    """A model cannot be exported, or the exported model differs from it; the message says what to do."""


class Normalization(nn.Module):
    """The normalisation of a data preprocessor: channel order, then ``(x - mean) / std``.

    Args:
        mean: one value per channel, or None for no normalisation.
        std: as ``mean``.
        channels: order of the channels that the model was trained on, 'RGB' or 'BGR'; '' leaves the input
            unchanged, which is RGB.
        loads_rgb: whether the training pipeline passes RGB to the data preprocessor, not BGR as usual.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        mean: Sequence[float] | Tensor | None = None,
        std: Sequence[float] | Tensor | None = None,
        channels: str = '',
        loads_rgb: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.loads_rgb = loads_rgb
        for name, values in (('mean', mean), ('std', std)):
            if values is not None:
                values = torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1).clone()
            self.register_buffer(name, values)

    @classmethod
    def of(cls, model: nn.Module, pads: bool = False) -> Normalization:
        """Return the normalisation of a model with a ``data_preprocessor``; without one nothing is changed.

        Args:
            model: the model.
            pads: whether the caller pads images as the data preprocessor does.

        Raises:
            ExportError: the data preprocessor pads and the caller does not, or it does not normalise images.
        """
        preprocessor = getattr(model, 'data_preprocessor', None)
        if preprocessor is None or type(preprocessor) is BaseDataPreprocessor:
            return cls()
        name = type(preprocessor).__name__
        cfg = getattr(model, 'cfg', {})
        settings = cfg.get('model', {}).get('data_preprocessor') or cfg.get('data_preprocessor') or {}
        if isinstance(preprocessor, ImgDataPreprocessor):
            convert, loads_rgb = preprocessor._channel_conversion, settings.get('rgb_to_bgr', False)
        elif hasattr(preprocessor, 'to_rgb') and hasattr(preprocessor, 'pad_size_divisor'):
            convert, loads_rgb = preprocessor.to_rgb, False  # mmpretrain's
        else:
            raise ExportError(
                f'data_preprocessor={name} does not normalise images: only those of image '
                'classification, segmentation and detection can become part of an exported file'
            )
        # The latter is mmseg's.
        if not pads and (preprocessor.pad_size_divisor > 1 or getattr(preprocessor, 'test_cfg', None)):
            raise ExportError(
                f'data_preprocessor={name} pads images, which an exported file does not do and ResFormer '
                'does not need: remove pad_size_divisor, size_divisor and test_cfg from it'
            )
        # Pipelines of all libraries load BGR.
        channels = 'RGB' if convert and not loads_rgb else 'BGR'
        if not preprocessor._enable_normalize:
            return cls(channels=channels, loads_rgb=loads_rgb)
        return cls(preprocessor.mean, preprocessor.std, channels, loads_rgb)

    def forward(self, image: Tensor) -> Tensor:
        """Return the input of the model for a batch ``(B, C, H, W)``, RGB, 0 to 255; same shape."""
        if self.channels == 'BGR' and image.shape[1] == 3:
            image = image.flip(1)
        return image if self.mean is None or self.std is None else (image - self.mean) / self.std

    def as_loaded(self, image: Tensor) -> Tensor:
        """Return RGB images in the order in which the training pipeline loads them."""
        unchanged = not self.channels or self.loads_rgb or image.shape[1] != 3
        return image if unchanged else image.flip(1)


def _with_fixed_patches(model: nn.Module) -> nn.Module:
    """Return a model; in a copy, if its patch embedding is flexible, with a plain one of the size it has."""
    if not any(isinstance(module, FlexiblePatchEmbed) for module in model.modules()):
        return model
    model = deepcopy(model).eval()
    try:
        fix_patches(model)
    except ValueError as error:
        raise ExportError(str(error)) from error
    return model


# Heads of segmentors, detectors and recognizers, whose results need more than one call of the model.
_OTHER_HEADS = ('decode_head', 'bbox_head', 'roi_head', 'rpn_head', 'cls_head')


class DeployableModel(nn.Module):
    """The module to export: a trained model with its normalisation, in evaluation mode.

    ``forward`` maps a float batch ``(B, 3, H, W)`` of RGB pixels, 0 to 255, each side at least one patch, to
    the output of ``model(inputs, mode='tensor')``, e.g. the logits of a classifier. A backbone alone has no
    data preprocessor: its input is unchanged and its output a tuple.

    This class is for image classifiers and backbones. Those of other tasks derive from it, and
    :func:`~resformer_mm.deployment.deployable` chooses the class of a model.

    A flexible patch embedding becomes a plain one of the size it has in evaluation, in a copy of the model.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`.

    Raises:
        ExportError: the model has no ResFormer or other heads, or its data preprocessor cannot be exported.

    Attributes:
        task: what the model is for, as in the metadata.
        input_name: name of the input.
        axes: names of the axes of the input that are free at run time.
        options: names of the further arguments of the constructor, which :func:`deployable` passes on.
        formats: suffixes of the file formats that the model can be written in.
        evaluation: the further arguments of models whose files can be evaluated.
        dtype: type in which the model computes, see :meth:`compute_in`.
    """

    task = 'classification'
    input_name = 'image'
    axes: Mapping[int, str] = {0: 'batch', 2: 'height', 3: 'width'}
    options: Sequence[str] = ()
    formats: Sequence[str] = ('.onnx', '.pt2')
    evaluation: Mapping[str, object] = {}
    dtype: InferenceDtype = 'float32'
    model: Any  # its attributes depend on the library

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        model = _with_fixed_patches(model)
        embeddings = [module for module in model.modules() if isinstance(module, PatchEmbed)]
        if not embeddings:
            raise ExportError(
                f'{type(model).__name__} has no ResFormer backbone: set model.backbone to a '
                'resformer_mm.ResFormer'
            )
        self.check(model)
        for module in model.modules():
            if isinstance(module, LearnedPositionEmbedding) and module.interpolation == 'area':
                raise ExportError(
                    "global_position.interpolation='area' cannot be exported for all sizes: set 'bicubic', "
                    "'bilinear', 'nearest' or 'nearest-exact'"
                )
        self.patch_size = embeddings[0].patch_size
        self.in_channels = embeddings[0].proj.in_channels
        self.normalization = self.make_normalization(model)
        self.model = model
        self.eval()

    @classmethod
    def check(cls, model: Any) -> None:
        """Check that this class can export a model.

        Raises:
            ExportError: it cannot; the message says what to do.
        """
        if any(hasattr(model, part) for part in _OTHER_HEADS):
            remedy = 'predict with tools/demo.py or resformer_mm.make_inferencer'
            if type(getattr(model, 'backbone', None)) is ResFormer:
                remedy += (
                    ', or export its features: DeployableModel(model.backbone) in the place of the model'
                )
            raise ExportError(
                f'{type(model).__name__} is not an image classifier. A model of another task is exported '
                f'as resformer_mm.deployment.deployable(model); if that leads here, {remedy}'
            )

    @classmethod
    def make_normalization(cls, model: Any) -> Normalization:
        """Return the normalisation of a model."""
        return Normalization.of(model)

    def compute_in(self, dtype: InferenceDtype) -> None:
        """Let the model compute in a type, on any processor; inputs and outputs stay float32.

        What stays in float32 says :func:`~resformer_mm.engine.inference_dtype.set_inference_dtype`.
        """
        compute_in(self.model, dtype)
        self.dtype = dtype

    def precision(self) -> contextlib.AbstractContextManager:
        """Return a context in which the parts of the model compute in its type."""
        if self.dtype == 'float32':
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.dtype))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.model.parameters()).device

    @property
    def smallest(self) -> Mapping[int, int]:
        """The least size of each free axis of the input."""
        return {0: 1, 2: self.patch_size, 3: self.patch_size}

    @property
    def longest_side(self) -> int | None:
        """The largest height and width in pixels that a file takes; None if there is no limit."""
        mergers = [module for module in self.model.modules() if isinstance(module, TokenMerger)]
        return min((self.patch_size * min(one.longest_sides) for one in mergers), default=None)

    @property
    def sides_text(self) -> str:
        """The heights and widths that a file takes, for the metadata."""
        end = 'on' if self.longest_side is None else f'to {self.longest_side}'
        return f'any height and width from {self.patch_size} {end}'

    def translations(self) -> Mapping[Callable, Callable]:
        """Return the operators of this package in the graph, and the functions that write them in ONNX."""
        return {}

    def example(self) -> Tensor:
        """Return an input for tracing, on the device of the model."""
        # No multiples of the patch and no equal sizes, so that the tracer does not identify any of them.
        patch = self.patch_size
        return torch.rand(2, self.in_channels, 5 * patch + 3, 7 * patch + 1, device=self.device)

    def random_input(self, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return random pixels for the comparison, on the device of the model.

        They are uint8, or float in the usual range if the model does not normalise.
        """
        return self.random_pixels((batch, self.in_channels, height, width), generator)

    def random_pixels(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return random pixels of a shape; see :meth:`random_input`."""
        image = torch.randint(256, tuple(shape), generator=generator, dtype=torch.uint8)
        if not self.normalization.channels:
            image = (image.float() - 127.5) / 64
        return image.to(self.device)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the output of the model."""
        inputs = self.normalization(image)
        with self.precision():
            if isinstance(self.model, BaseModel):
                return self.model(inputs, mode='tensor')
            return self.model(inputs)

    @torch.no_grad()
    def predict_as_trained(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the same output as in evaluation, through the data preprocessor of the model.

        Args:
            image: uint8 batch ``(B, C, H, W)``, RGB; a float batch for a model without normalisation.
        """
        if not isinstance(self.model, BaseModel):
            return self.model(image)
        loaded = self.normalization.as_loaded(image)
        inputs = self.model.data_preprocessor({'inputs': loaded}, training=False)['inputs']
        return self.model(inputs, mode='tensor')

    def to_input(self, loaded: Tensor) -> Tensor:
        """Return a batch as the pipeline of the config loads it as the input of a file, float32."""
        return self.normalization.as_loaded(loaded).float()

    def require_predictions(self) -> None:
        """Check that :meth:`to_predictions` can be called.

        Raises:
            ExportError: it cannot for this model.
        """
        if getattr(self.model, 'head', None) is None:
            raise ExportError(
                f'files exported from {type(self.model).__name__} can be neither quantised nor evaluated: '
                'only those of image classifiers and segmentors can'
            )

    def to_predictions(self, outputs: Sequence[Tensor], data_samples: Sequence[Any]) -> list[Any]:
        """Return the data samples with the predictions of evaluation, made from the outputs of a file.

        Args:
            outputs: outputs of the file.
            data_samples: the samples of the batch.
        """
        return self.model.head._get_predictions(outputs[0], list(data_samples))

    def difference(
        self, outputs: Sequence[Tensor], expected: Tensor | Sequence[Tensor]
    ) -> tuple[float, float]:
        """Compare the outputs of a file with those of evaluation.

        Args:
            outputs: outputs of the file, on the CPU.
            expected: what :meth:`predict_as_trained` returned for the same input.

        Returns:
            The largest absolute difference, NaN if an output is not finite, and the largest absolute value
            of the expected outputs.

        Raises:
            ExportError: the outputs differ in number or shape.
        """
        wanted = [x.float().cpu() for x in tree_flatten(expected)[0]]
        check_shapes(outputs, wanted)
        differences = torch.stack([(a.float() - b).abs().max() for a, b in zip(outputs, wanted)])
        magnitude = torch.stack([x.abs().max() for x in wanted]).max()
        return differences.max().item(), magnitude.item()

    def output_names(self, number: int) -> list[str]:
        """Return names of the outputs: 'logits', 'block_5' for the features of block 5, or 'output_0', ..."""
        if getattr(self.model, 'head', None) is not None and number == 1:
            return ['logits']
        backbone = getattr(self.model, 'backbone', self.model)
        if isinstance(backbone, ResFormer) and number == len(backbone.out_indices):
            return [f'block_{index}' for index in backbone.out_indices]
        return [f'output_{index}' for index in range(number)]

    def describe_input(self) -> str:
        """Return the type, shape and values of the input, for the metadata."""
        pixels = (
            'RGB, 0 to 255, normalised inside' if self.normalization.channels else 'normalised as in training'
        )
        return f'float32 (batch, {self.in_channels}, height, width), {pixels}; {self.sides_text}'

    def describe_outputs(self) -> list[str]:
        """Return what each output is, for the metadata; empty where the output depends on the config."""
        if getattr(self.model, 'head', None) is None:
            return []
        return ['float32 (batch, classes), before the softmax']

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the file; lists and dicts as JSON.

        They are the task, input, outputs, patch size, resizing in evaluation, normalisation, and classes.
        """
        norm, cfg = self.normalization, getattr(self.model, 'cfg', None)
        entries = {
            'input': self.describe_input(),
            'patch_size': str(self.patch_size),
            'model': type(self.model).__name__,
            'resformer_mm_version': __version__,
        }
        if self.dtype != 'float32':
            entries['dtype'] = self.dtype
        if isinstance(self.model, BaseModel):
            entries['task'] = self.task
        if outputs := self.describe_outputs():
            entries['outputs'] = json.dumps(outputs)
        if cfg is not None and cfg.filename:
            entries['config'] = Path(cfg.filename).name
        if cfg is not None and (steps := resizing(cfg)) is not None:
            entries['resizing'] = json.dumps(steps)
        if norm.channels:
            values = {name: _rounded(getattr(norm, name)) for name in ('mean', 'std')}
            entries['normalization'] = json.dumps({'channels': norm.channels, **values})
        classes = self.class_meta().get('classes')
        if classes is not None and names_fit(self.model, classes):
            entries['classes'] = json.dumps(list(classes))
        return entries

    def class_meta(self) -> dict:
        """Return what the checkpoint and the data set of the config say of the classes, such as names."""
        meta, cfg = getattr(self.model, 'dataset_meta', {}), getattr(self.model, 'cfg', None)
        try:
            return meta if cfg is None else class_meta(self.model, scope_of(cfg))
        except (ValueError, ImportError):  # no test data set, or one that is not installed
            return meta


def check_shapes(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Check that outputs of a file are as many as those of evaluation, and of the same shapes.

    Raises:
        ExportError: they are not.
    """
    shapes, wanted = ([tuple(x.shape) for x in tensors] for tensors in (outputs, expected))
    if shapes != wanted:
        raise ExportError(f'the file gives {shapes}, PyTorch {wanted}')


def _rounded(values: Tensor | None) -> list[float] | None:
    """Return the decimals of the config, which float32 does not represent exactly."""
    return None if values is None else [round(value, 4) for value in values.flatten().tolist()]
