"""Data preprocessor for one or several copies of each clip."""

from __future__ import annotations

from collections.abc import Sequence

from mmaction.models import ActionDataPreprocessor
from mmaction.structures import ActionDataSample
from torch import Tensor

from resformer_mm.datasets.batches import check_label, stack_equal
from resformer_mm.engine.partial_copies import PartialCopy
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionActionDataPreprocessor(ActionDataPreprocessor):
    """Normalise and check a batch that holds one or several copies of each clip.

    A training batch is a list of uint8 tensors ``(B, num_clips, C, T_i, H_i, W_i)``, one per copy, each the
    teacher of the next one. It is returned as a list of float32 tensors of the same shapes. An evaluation
    batch is one tensor, or a list of B clips.

    Args:
        num_classes: number of classes, for checking the labels. None uses that of the head in a
            :class:`MultiResolutionRecognizer`, and disables the check in other models.
        format_shape: must be 'NCTHW', the format of clips.
        **kwargs: arguments of :class:`mmaction.models.ActionDataPreprocessor` except ``blending``, which
            would mix each copy of a clip with a different clip.

    Raises:
        ValueError: ``blending`` or another ``format_shape`` is given, a label is outside the classes, or a
            batch does not contain clips or contains clips that differ in size.
    """

    def __init__(self, *args, num_classes: int | None = None, format_shape: str = 'NCTHW', **kwargs) -> None:
        if kwargs.get('blending') is not None:
            raise ValueError(
                'MultiResolutionActionDataPreprocessor does not mix clips: `blending` would mix each copy of '
                'a clip with a different clip. Remove it, or train on one copy with '
                'mmaction.ActionDataPreprocessor'
            )
        if format_shape != 'NCTHW':
            raise ValueError(
                f'MultiResolutionActionDataPreprocessor: format_shape={format_shape!r}, but clips are '
                "'NCTHW': leave it out"
            )
        super().__init__(*args, format_shape=format_shape, **kwargs)
        self.num_classes = num_classes

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs`` and ``data_samples`` for the model."""
        data_samples = data.get('data_samples')
        if data_samples is not None:
            self._check_labels(data_samples, training)
        inputs = data['inputs']
        single = isinstance(inputs, Tensor) or (isinstance(inputs[0], Tensor) and inputs[0].ndim == 5)
        copies: list[Tensor | PartialCopy] = []
        for one in [inputs] if single else inputs:
            batch, rows = one if isinstance(one, PartialCopy) else (one, None)
            if rows is not None and training and self.blending is not None:
                raise ValueError(
                    'data_preprocessor.blending needs every clip at every resolution, but '
                    'train_dataloader.batch_sampler gives some resolutions to a part of them: set it to None'
                )
            batch = batch if isinstance(batch, Tensor) else stack_equal(batch, 'CenterCrop')
            if batch.ndim != 6:
                raise ValueError(
                    f'a batch of clips is (B, num_clips, C, T, H, W), got {tuple(batch.shape)}: end the '
                    "pipeline with FormatShape(input_format='NCTHW') and resformer_mm.PackClips"
                )
            out = super().forward({'inputs': list(batch), 'data_samples': data_samples}, training)
            copies.append(out['inputs'] if rows is None else PartialCopy(out['inputs'], rows))
            data_samples = out['data_samples']
        return {'inputs': copies[0] if single else copies, 'data_samples': data_samples}

    def _check_labels(self, data_samples: Sequence[ActionDataSample], training: bool) -> None:
        if self.num_classes is None or 'gt_label' not in data_samples[0]:
            return
        for sample in data_samples:
            if not training and (sample.gt_label == -1).all():
                continue  # mmaction's inference functions give every clip this label
            check_label(sample.gt_label, self.num_classes, sample.get('filename', 'a clip'), 'model.cls_head')
