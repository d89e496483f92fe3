"""Masks of annotations that stay encoded until they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask


class EncodedMasks(BitmapMasks):
    """Masks that are decoded each time that they are asked for.

    Args:
        codes: masks in COCO's run-length encoding.
        height: height of the masks in pixels.
        width: width of the masks in pixels.
    """

    def __init__(self, codes: Sequence[dict], height: int, width: int) -> None:
        self.codes = list(codes)
        self.height, self.width = height, width

    @property
    def masks(self) -> np.ndarray:
        """The masks, ``(N, H, W)`` uint8."""
        masks = np.empty((len(self), self.height, self.width), np.uint8)
        for number, mask in enumerate(self):
            masks[number] = mask
        return masks

    def __getitem__(self, index: int | slice | np.ndarray) -> EncodedMasks:
        """Return the masks of an index, of a slice, or where an array is true."""
        numbers = np.atleast_1d(np.arange(len(self))[index])
        return EncodedMasks([self.codes[number] for number in numbers], self.height, self.width)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode one mask after another."""
        return map(coco_mask.decode, self.codes)

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.codes)

    def __repr__(self) -> str:
        """Return number and size."""
        return f'{type(self).__name__}(num_masks={len(self)}, height={self.height}, width={self.width})'


def keep_encoded(loading: LoadAnnotations) -> None:
    """Let a transform load masks as :class:`EncodedMasks`, of the same pixels."""
    if loading.with_mask and loading.poly2mask:

        def load(results: dict) -> None:
            height, width = results['ori_shape']
            codes = [_encoded(mask, height, width) for mask in loading._process_masks(results)]
            results['gt_masks'] = EncodedMasks(codes, height, width)

        loading._load_masks = load


def _encoded(mask: Any, height: int, width: int) -> dict:
    """Return the code of polygons, or of run lengths in either form."""
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask
