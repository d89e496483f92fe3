"""Label maps at the resolution of a copy."""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from mmengine.structures import BaseDataElement, PixelData

Sample = TypeVar('Sample', bound=BaseDataElement)


def labels_at(sample: Sample, size: tuple[int, int]) -> Sample:
    """Return a segmentation sample whose label map, ``gt_sem_seg``, is resized by nearest neighbour.

    The new sample has the meta information of the old one, and no other data.

    Args:
        sample: a sample with a label map ``(1, H, W)``; returned unchanged if it has the size already.
        size: ``(height, width)`` in pixels.
    """
    labels = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) == size:
        return sample
    # Labels are whole numbers that float32 holds exactly; 'nearest-exact' picks the pixel at the centre.
    resized = F.interpolate(labels[None].float(), size, mode='nearest-exact')[0].to(labels.dtype)
    return type(sample)(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=resized))
