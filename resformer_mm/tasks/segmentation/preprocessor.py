"""From a batch of crops to the same crops at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmseg.models import SegDataPreProcessor

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionSegDataPreprocessor(SegDataPreProcessor):
    """Normalise a batch of crops, and shrink copies of it for multi-resolution training.

    Training batches leave as a list ``(B, 3, H_i, W_i)``, high to low: the first is the crop as the pipeline
    made it, the others are shrunk in the proportion of the resolutions (bilinear, antialiased). The crop is
    made and augmented once, so that predictions at all resolutions can be compared pixel by pixel. Batches
    of evaluation are one tensor.

    Args:
        resolutions: in pixels, high to low; the first is the short side of the crop.
        **kwargs: arguments of :class:`mmseg.models.SegDataPreProcessor`.

    Raises:
        ValueError: bad resolutions, a training batch whose short side is not the first of them, or
            whose label maps are missing or have another size than their images.
    """

    map_name = 'gt_sem_seg'
    """The map of labels in a data sample, which must have the size of the crop."""

    def __init__(self, *args, resolutions: Sequence[int], **kwargs) -> None:
        super().__init__(*args, **kwargs)
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
        # Stacking would pad the smaller of the two, and the labels would no longer fit their image.
        for image, sample in zip(data['inputs'], data['data_samples']):
            path = sample.get('img_path', 'an image')
            if self.map_name not in sample:
                raise ValueError(
                    f'{path} has no label map after the training pipeline ({self.map_name}): put '
                    'resformer_mm.LoadSegMap, or what loads your labels, after the loading of the image'
                )
            size, labels = tuple(image.shape[-2:]), tuple(sample.get(self.map_name).shape)
            if size != labels:
                raise ValueError(
                    f'{path} is {size[0]} x {size[1]} pixels after the '
                    f'training pipeline, its label map {labels[0]} x {labels[1]}: load the label map '
                    'before the transforms that resize or crop'
                )
