"""Backbones with what brings an image to them: the pipeline and the normalisation."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor, nn

from resformer_mm.checkpoints.models import load_model
from resformer_mm.config.inference_dtype import FIELD, InferenceDtype, read_inference_dtype
from resformer_mm.config.resolutions import test_dataset
from resformer_mm.engine.precision import half_pays
from resformer_mm.fingerprint import fingerprint
from resformer_mm.libraries import TASKS, import_library, task_of_class
from resformer_mm.models import ResFormer, VideoResFormer

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet in RGB, which most published weights were trained with."""
# That of the evaluations of the paper.
CROP: tuple[dict[str, Any], ...] = (
    dict(type='resformer_mm.LoadImage'),
    dict(type='resformer_mm.ResizeCenterCrop', resolution=224),
    dict(type='mmpretrain.PackInputs'),
)


@dataclass(frozen=True)
class FrozenBackbone:
    """A backbone in evaluation mode.

    Attributes:
        backbone: the backbone.
        mean: mean of each channel that is subtracted, 0 to 255; None for no normalisation.
        std: standard deviation that is divided by.
        to_rgb: whether the channels that the pipeline loads, BGR, are reversed first.
        transforms: evaluation pipeline, whose resolution is replaced.
        name: what it was made of.
        dtype: type in which it computes; the weights are float32.
    """

    backbone: ResFormer
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    to_rgb: bool
    transforms: Sequence[dict[str, Any]]
    name: str
    dtype: InferenceDtype = 'float32'

    @classmethod
    def of_config(
        cls,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | torch.device | None = None,
        cfg_options: dict | None = None,
    ) -> FrozenBackbone:
        """Return the backbone of a trained model of any task.

        A classifier keeps the test pipeline of its config. For other models, whose pipelines make images of
        any shape, it is :class:`~resformer_mm.tasks.classification.resize_center_crop.ResizeCenterCrop`.
        It computes in ``inference_dtype`` of the config, where the processor can.

        Raises:
            FileNotFoundError: there is no such config.
            CheckpointError: the checkpoint cannot be read, or is of another model.
            ValueError: the model has no ResFormer for images, or ``inference_dtype`` is not a type of
                inference.
        """
        model: Any = load_model(config, checkpoint, device, cfg_options)
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, ResFormer) or isinstance(backbone, VideoResFormer):
            raise ValueError(
                f'{model.cfg.filename or "the config"}: features are those of a ResFormer for images, but '
                f'model.backbone is a {type(backbone).__name__}'
            )
        is_classifier = task_of_class(type(model)) is TASKS['classification']
        transforms = test_dataset(model.cfg)['pipeline'] if is_classifier else CROP
        mean, std, to_rgb = _normalisation(model)
        steps = copy.deepcopy(list(transforms))
        dtype = _usable(read_inference_dtype(model.cfg), backbone)
        return cls(backbone, mean, std, to_rgb, steps, str(checkpoint), dtype)

    @classmethod
    def of_weights(
        cls,
        weights: str | Path,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        device: str | torch.device | None = None,
        dtype: InferenceDtype = 'float32',
    ) -> FrozenBackbone:
        """Return the backbone of anything that :meth:`ResFormer.from_pretrained` takes.

        Args:
            weights: file, folder, name of the zoo or ``hf-hub:owner/name``.
            mean: mean of the channels in RGB, 0 to 255, that the weights were trained with.
            std: their standard deviation.
            device: device of the model; by default a GPU if there is one.
            dtype: type in which it computes, where the processor can.

        Raises:
            CheckpointError: there are no such weights, or they are not those of a ViT.
        """
        import_library('mmpretrain', 'the pipeline of the images')
        backbone = ResFormer.from_pretrained(weights).to(device or get_device())
        return cls(backbone, tuple(mean), tuple(std), True, CROP, str(weights), _usable(dtype, backbone))

    @property
    def is_cropped(self) -> bool:
        """Whether images go through :data:`CROP` instead of the pipeline of a config."""
        return list(self.transforms) == list(CROP)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.backbone.patch_embed.proj.weight.device

    @property
    def sha256(self) -> str:
        """Hash of the weights of the backbone."""
        return fingerprint('', self.backbone.state_dict())

    def precision(self) -> contextlib.AbstractContextManager:
        """Return a context in which the backbone computes in its type."""
        dtype = getattr(torch, self.dtype)
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def normalise(self, images: Tensor) -> Tensor:
        """Return the input of the backbone for images as the pipeline makes them, ``(B, C, h, w)``."""
        images = images.to(self.device, torch.float32)
        if self.to_rgb:
            images = images.flip(1)
        if self.mean is None or self.std is None:
            return images
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


def _usable(dtype: InferenceDtype, backbone: ResFormer) -> InferenceDtype:
    """Return the type, or 'float32' if the processor would emulate it; one line says so."""
    device = backbone.patch_embed.proj.weight.device
    return dtype if dtype == 'float32' or half_pays(dtype, device, FIELD) else 'float32'


def _normalisation(
    model: nn.Module,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None, bool]:
    """Return mean, standard deviation, and whether channels are reversed, of a data preprocessor."""
    preprocessor: Any = model.data_preprocessor
    # mmpretrain's and mmaction's have the first, MMEngine's, mmseg's and mmdet's the second.
    to_rgb = getattr(preprocessor, 'to_rgb', getattr(preprocessor, '_channel_conversion', False))
    if not getattr(preprocessor, '_enable_normalize', False):
        return None, None, bool(to_rgb)
    mean, std = (tuple(values.flatten().tolist()) for values in (preprocessor.mean, preprocessor.std))
    return mean, std, bool(to_rgb)
