"""Data preprocessor for segmentation at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models import SegDataPreProcessor

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionSegDataPreprocessor(SegDataPreProcessor):
    """Normalise a batch of crops and shrink copies of it for multi-resolution training.

    A training batch becomes a list of tensors ``(B, 3, H_i, W_i)``, high to low. The first is the crop from
    the pipeline; the others are scaled down in proportion to the resolutions (bilinear, antialiased). The
    crop is augmented only once, so predictions at all resolutions can be compared pixel by pixel. An
    evaluation batch is one tensor.

    Args:
        resolutions: in pixels, high to low; the first is the short side of the crop.
        **kwargs: arguments of :class:`mmseg.models.SegDataPreProcessor`. Exactly one of ``size`` and
            ``size_divisor`` says what training crops are padded to.

    Raises:
        ValueError: the resolutions are invalid, ``size`` and ``size_divisor`` are both given or both missing,
            the short side of a training batch differs from the first resolution, or the label maps are
            missing or differ in size from their images.
    """

    map_name = 'gt_sem_seg'
    """Name of the label map in a data sample. It must have the size of the crop."""

    def __init__(self, *args, resolutions: Sequence[int], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if (self.size is None) == (self.size_divisor is None):
            raise ValueError(
                f'model.data_preprocessor.size={self.size!r} and size_divisor={self.size_divisor!r}: give '
                'exactly one of them, usually size=(height, width) of the crop of the training pipeline'
            )
        self.resolutions = check_resolutions(resolutions, 'data_preprocessor.resolutions')

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs`` and ``data_samples`` for the model."""
        if training:
            self._check_sizes(data)
        data = super().forward(data, training)
        if not training:
            return data
        crops = data['inputs']
        height, width = crops.shape[-2:]
        largest = self.resolutions[0]
        if min(height, width) != largest:
            raise ValueError(
                f'the crops of the training pipeline are {height} x {width} pixels, but '
                f'data_preprocessor.resolutions starts with {largest}: give both the same size'
            )
        copies = [crops]
        for resolution in self.resolutions[1:]:
            size = (round(height * resolution / largest), round(width * resolution / largest))
            copies.append(F.interpolate(crops, size, mode='bilinear', align_corners=False, antialias=True))
        return {**data, 'inputs': copies}

    def _check_sizes(self, data: dict) -> None:
        # Stacking would pad the smaller of the two, and the labels would no longer match their image.
        for image, sample in zip(data['inputs'], data['data_samples']):
            path = sample.get('img_path', 'an image')
            if self.map_name not in sample:
                raise ValueError(
                    f'{path} has no label map after the training pipeline ({self.map_name}): add '
                    'resformer_mm.LoadSegMap, or another transform that loads labels, after image loading'
                )
            size, labels = tuple(image.shape[-2:]), tuple(sample.get(self.map_name).shape)
            if size != labels:
                raise ValueError(
                    f'{path} has {size[0]} x {size[1]} pixels after the training pipeline, but its label map '
                    f'has {labels[0]} x {labels[1]}: load the label map before transforms that resize or crop'
                )
