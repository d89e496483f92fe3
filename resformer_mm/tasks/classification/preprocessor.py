"""Data preprocessor for classification at one or several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from resformer_mm.datasets.batches import check_label, stack_equal
from resformer_mm.engine.partial_copies import PartialCopy
from resformer_mm.registry import MODELS

from .batch_augment import BatchAugment
from .mix import MultiResolutionMix

REMEDY = 'resformer_mm.ResizeCenterCrop'


@MODELS.register_module()
class MultiResolutionDataPreprocessor(ClsDataPreprocessor):
    """Augment, normalise and mix batches that hold each image at one or several resolutions; check labels.

    A training batch is a list of uint8 tensors ``(B, 3, R_i, R_i)``, one per resolution, high to low. It is
    returned as a list of float32 tensors of the same shapes. A :class:`~resformer_mm.engine.PartialCopy` has
    some of the B images, and stays one. An evaluation batch is one tensor.

    Args:
        mix: arguments of :class:`MultiResolutionMix`, for training; None disables mixup and CutMix.
            It needs ``num_classes``, which :class:`MultiResolutionClassifier` copies from its head.
        augment: arguments of :class:`BatchAugment`: colour jitter and random erasing of training batches on
            the device, before normalisation, instead of in the loader; None leaves them to the loader.
        **kwargs: arguments of :class:`mmpretrain.models.ClsDataPreprocessor` except ``batch_augments``, which
            ``mix`` replaces.

    Raises:
        ValueError: ``mix`` is given without ``num_classes``, a label is outside the classes, the images of a
            batch differ in size, or a copy of some images does not fit ``mix`` or ``augment``.
    """

    def __init__(self, *args, mix: dict | None = None, augment: dict | None = None, **kwargs) -> None:
        if kwargs.pop('batch_augments', None):
            raise ValueError(
                'MultiResolutionDataPreprocessor does not support `batch_augments` or the `train_cfg` of the '
                'model: use `mix=dict(mixup_alpha=..., cutmix_alpha=...)`'
            )
        super().__init__(*args, **kwargs)
        self.mix = MultiResolutionMix(**mix) if mix is not None else None
        self.augment = BatchAugment(**augment) if augment is not None else None
        if self.mix is not None:
            self.to_onehot = True

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs`` and ``data_samples`` for the model."""
        if self.mix is not None and self.num_classes is None:
            raise ValueError('data_preprocessor.mix needs data_preprocessor.num_classes')
        data_samples = data.get('data_samples')
        if data_samples is not None:
            self._check_labels(data_samples)
        inputs = data['inputs']
        single = isinstance(inputs, Tensor) or (isinstance(inputs[0], Tensor) and inputs[0].ndim == 3)
        rows = [one.rows if isinstance(one, PartialCopy) else None for one in ([None] if single else inputs)]
        if any(rows):
            inputs = [one.inputs if isinstance(one, PartialCopy) else one for one in inputs]
        # Stack what the collate function left as a list of images.
        copies = [
            images if isinstance(images, Tensor) else stack_equal(images, REMEDY)
            for images in ([inputs] if single else inputs)
        ]
        if training and self.augment is not None:
            if self.augment.shared and any(rows):
                raise ValueError(
                    'data_preprocessor.augment.shared=True needs every image at every resolution, but '
                    'train_dataloader.batch_sampler gives some resolutions to a part of them: set it to False'
                )
            copies = self.augment(self.cast_data(copies))
        first = super().forward({'inputs': copies[0], 'data_samples': data_samples}, training)
        data_samples = first['data_samples']
        copies[0] = first['inputs']
        for index in range(1, len(copies)):
            copies[index] = super().forward({'inputs': copies[index]})['inputs']
        if training and self.mix is not None:
            copies = _mix(self.mix, copies, data_samples, rows)
        if single:
            return {'inputs': copies[0], 'data_samples': data_samples}
        parts = [one if own is None else PartialCopy(one, own) for one, own in zip(copies, rows)]
        return {'inputs': parts, 'data_samples': data_samples}

    def _check_labels(self, data_samples: list[DataSample]) -> None:
        # Labels are still on the CPU here, so the check does not synchronise.
        if self.num_classes is None or 'gt_label' not in data_samples[0]:
            return
        for sample in data_samples:
            check_label(sample.gt_label, self.num_classes, sample.get('img_path', 'an image'), 'model.head')


def _mix(
    mix: MultiResolutionMix,
    copies: list[Tensor],
    data_samples: list[DataSample],
    rows: Sequence[tuple[int, ...] | None],
) -> list[Tensor]:
    """Return the mixed images, and set the mixed labels of the samples."""
    scores = torch.stack([sample.gt_score for sample in data_samples]).float()
    copies, mixed = mix(copies, scores, rows)
    for number, sample in enumerate(data_samples):
        sample.set_gt_score(mixed[0][number])
        if len(mixed) > 1:
            sample.set_field(torch.stack([score[number] for score in mixed]), 'gt_scores')
    return copies
