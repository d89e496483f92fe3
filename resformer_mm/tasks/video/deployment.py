"""Recognizers as modules to export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from mmaction.models import Recognizer3D
from mmaction.structures import ActionDataSample
from torch import Tensor

from resformer_mm.compat.tracing import dense_in_export
from resformer_mm.config.resolutions import test_dataset
from resformer_mm.config_types import type_name
from resformer_mm.deployment.model import DeployableModel, ExportError, Normalization
from resformer_mm.models import VideoResFormer


class DeployableRecognizer(DeployableModel):
    """A recognizer of mmaction for clips, to export.

    ``forward`` maps the clips ``(B, M, 3, T, H, W)`` of B videos, RGB, 0 to 255, to scores ``(B, K)``. As in
    evaluation, M clips or crops of a video are averaged. All numbers are free but the channels.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`.

    Raises:
        ExportError: see :class:`DeployableModel`; or the model is not a recognizer of clips with a
            :class:`~resformer_mm.models.VideoResFormer`, or its head does not average.
    """

    task = 'video'
    input_name = 'clips'
    axes: Mapping[int, str] = {0: 'batch', 1: 'clips', 3: 'frames', 4: 'height', 5: 'width'}

    @classmethod
    def check(cls, model: Any) -> None:
        """Check that this class can export a model."""
        name = type(model).__name__
        if not isinstance(model, Recognizer3D) or not isinstance(model.backbone, VideoResFormer):
            raise ExportError(
                f'{name} with {type(model.backbone).__name__} is not exported: only recognizers of clips '
                'with a resformer_mm.VideoResFormer are. Predict with tools/demo.py or '
                'resformer_mm.make_inferencer'
            )
        if not model.with_cls_head:
            raise ExportError(f'{name} has no cls_head: set model.cls_head, or export model.backbone alone')
        if model.cls_head.average_clips not in ('prob', 'score'):
            raise ExportError(
                f'model.cls_head.average_clips={model.cls_head.average_clips!r} does not average the clips '
                "of a video: set it to 'prob' or 'score'"
            )

    @classmethod
    def make_normalization(cls, model: Any) -> Normalization:
        """Return the normalisation of a model, whose pipelines load RGB.

        Raises:
            ExportError: the data preprocessor is not mmaction's for clips.
        """
        preprocessor = model.data_preprocessor
        if getattr(preprocessor, 'format_shape', None) != 'NCTHW':
            raise ExportError(
                f'data_preprocessor={type(preprocessor).__name__} does not normalise clips: use '
                'resformer_mm.MultiResolutionActionDataPreprocessor'
            )
        # `to_rgb` exchanges the channels of RGB frames, which gives BGR.
        channels = 'BGR' if preprocessor.to_rgb else 'RGB'
        if not preprocessor._enable_normalize:
            return Normalization(channels=channels, loads_rgb=True)
        return Normalization(preprocessor.mean, preprocessor.std, channels, loads_rgb=True)

    @property
    def smallest(self) -> Mapping[int, int]:
        """The least size of each free axis of the input."""
        return {0: 1, 1: 1, 3: 1, 4: self.patch_size, 5: self.patch_size}

    @property
    def num_frames(self) -> int:
        """Number of frames of the temporal embedding, or of a usual clip."""
        position = self.model.backbone.temporal_position
        return 8 if position is None else position.num_frames

    def example(self) -> Tensor:
        """Return an input for tracing, on the device of the model."""
        patch = self.patch_size
        shape = (2, 3, self.in_channels, 4, 5 * patch + 3, 7 * patch + 1)
        return torch.rand(shape, device=self.device)

    def random_input(self, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return random clips for the comparison, 1 to 3 per video.

        They have one frame to twice the usual number.
        """
        clips, frames = (
            int(torch.randint(low, high + 1, (), generator=generator))
            for low, high in ((1, 3), (1, 2 * self.num_frames))
        )
        return self.random_pixels((batch, clips, self.in_channels, frames, height, width), generator)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of a batch of videos."""
        number, frames = image.shape[1], image.shape[3]
        clips = image.flatten(0, 1)
        pictures = self.normalization(dense_in_export(clips.transpose(1, 2)).flatten(0, 1))
        clips = dense_in_export(pictures.unflatten(0, (-1, frames)).transpose(1, 2))
        with self.precision():
            scores = self.model(clips.unsqueeze(1), mode='tensor', stage='head')
        return self.model.cls_head.average_clip(scores, num_segs=number)

    @torch.no_grad()
    def predict_as_trained(self, image: Tensor) -> Tensor:
        """Return the same scores as in evaluation, through the data preprocessor of the model.

        Args:
            image: uint8 clips ``(B, M, 3, T, H, W)``, RGB.
        """
        data = {'inputs': list(image), 'data_samples': [ActionDataSample() for _ in image]}
        return torch.stack([sample.pred_score for sample in self.model.test_step(data)])

    def output_names(self, number: int) -> list[str]:
        """Return 'scores'."""
        return ['scores']

    def describe_input(self) -> str:
        """Return the type, shape and values of the input, for the metadata."""
        return (
            f'float32 (batch, clips, {self.in_channels}, frames, height, width), RGB, 0 to 255, normalised '
            f'inside; {self.sides_text}; the clips of a video are averaged'
        )

    def describe_outputs(self) -> list[str]:
        """Return what the output is, for the metadata."""
        if self.model.cls_head.average_clips == 'prob':
            return ['float32 (batch, classes), mean over the clips of the softmax']
        return ['float32 (batch, classes), mean over the clips, before the softmax']

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the file, also ``sampling``; see :func:`frame_sampling`."""
        sampling = frame_sampling(self.model.cfg)
        return {**super().metadata(), **({} if sampling is None else {'sampling': json.dumps(sampling)})}


def frame_sampling(cfg: Mapping) -> dict[str, int] | None:
    """Return how the test pipeline of a config samples the frames of a video.

    Returns:
        The number of ``clips`` of a video, the ``frames`` of each, and their ``interval`` in frames of the
        video, as ``SampleFrames`` of mmaction understands them; None if it is sampled otherwise.
    """
    try:
        pipeline = test_dataset(cfg)['pipeline']
    except ValueError:
        return None
    steps = [step for step in pipeline if 'Sample' in type_name(step['type'])]
    if len(steps) != 1 or type_name(steps[0]['type']) != 'SampleFrames':
        return None
    step = steps[0]
    plain = step.get('test_mode') and step.get('out_of_bound_opt', 'loop') == 'loop'
    if not plain or any(step.get(name) for name in ('twice_sample', 'temporal_jitter', 'target_fps')):
        return None
    return {
        'clips': step.get('num_clips', 1),
        'frames': step['clip_len'],
        'interval': step.get('frame_interval', 1),
    }
