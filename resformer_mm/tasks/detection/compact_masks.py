"""Masks in run-length encoding, made a few at a time.

A mask has one byte per pixel of the image: a hundred masks of 6000 x 4000 pixels take 2.4 GB, and a few times
as much while they are copied. Encoded, they take some kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn

MOST_PIXELS = 2**24
"""Pixels of the masks that are pasted at a time, of at least one mask."""


@contextmanager
def masks_one_by_one(model: nn.Module) -> Iterator[None]:
    """Let the mask heads of a two-stage detector paste and encode few masks at a time.

    Masks of the predictions are then lists of codes. Other models are not changed.
    """
    encode_in_heads(model)
    try:
        yield
    finally:
        paste_in_heads(model)


def encode_in_heads(model: nn.Module) -> None:
    """Let the mask heads of a two-stage detector return lists of codes, until :func:`paste_in_heads`."""
    for head in _mask_heads(model):
        if '_predict_by_feat_single' not in vars(head):
            head._predict_by_feat_single = partial(_paste_and_encode, head._predict_by_feat_single)


def paste_in_heads(model: nn.Module) -> None:
    """Let the mask heads of a two-stage detector return arrays, as mmdetection's do."""
    for head in _mask_heads(model):
        vars(head).pop('_predict_by_feat_single', None)


def _mask_heads(model: nn.Module) -> list[FCNMaskHead]:
    return [module for module in model.modules() if isinstance(module, FCNMaskHead)]


def encode_masks(instances: InstanceData) -> None:
    """Replace the masks ``(N, H, W)`` of predictions by a list of codes."""
    masks = instances.get('masks')
    if isinstance(masks, (Tensor, np.ndarray)):
        codes = [encode_mask(mask) for mask in masks]
        del instances.masks
        instances.masks = codes


def decode_masks(instances: InstanceData, size: Sequence[int]) -> None:
    """Replace the codes by masks ``(N, H, W)``, as the models of mmdetection return them.

    Args:
        instances: the predictions.
        size: height and width of the image.
    """
    codes = instances.get('masks')
    if isinstance(codes, list):
        masks = torch.zeros((len(codes), *size), dtype=torch.bool)
        for number, code in enumerate(codes):
            masks[number] = torch.from_numpy(coco_mask.decode(code)).bool()
        del instances.masks
        instances.masks = masks.to(instances.scores.device)


def encode_mask(mask: Tensor | np.ndarray) -> dict:
    """Return COCO's run-length encoding of a mask ``(H, W)``."""
    values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
    return coco_mask.encode(np.asfortranarray(values, np.uint8))


def place_mask(code: dict, left: int, top: int, size: tuple[int, int]) -> dict:
    """Return the code of a mask as a part of a larger image, which is never decoded.

    Args:
        code: COCO's run-length encoding of the mask.
        left: column of the image at which the mask starts.
        top: row of the image at which it starts.
        size: height and width of the image.
    """
    height, width = size
    columns = coco_mask.decode(code).T
    changes = np.diff(np.pad(columns, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    column, row = np.nonzero(changes)  # of starts and ends of runs, by turns
    places = (left + column) * height + top + row  # codes count along columns
    # A run that ends where the next one starts goes on.
    joined = np.flatnonzero(places[1:-1:2] == places[2::2])
    places = np.delete(places, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(places, prepend=0, append=height * width)
    return coco_mask.frPyObjects({'size': [height, width], 'counts': counts.tolist()}, height, width)


def _paste_and_encode(
    paste: Any,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: dict,
    rcnn_test_cfg: Any,
    **kwargs: Any,
) -> Sequence[dict]:
    if rcnn_test_cfg.mask_thr_binary < 0:
        return paste(
            mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, **kwargs
        )  # grey values, which have no code
    height, width = img_meta['ori_shape'][:2]
    number = max(1, MOST_PIXELS // (height * width))
    codes = []
    for start in range(0, len(mask_preds), number):
        part = slice(start, start + number)
        # Views, because the head scales the boxes in place.
        masks = paste(mask_preds[part], bboxes[part], labels[part], img_meta, rcnn_test_cfg, **kwargs)
        codes += [encode_mask(mask) for mask in masks.cpu()]
    return codes
