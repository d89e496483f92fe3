"""Predictions of mmdet's heads for one image, as a graph that holds for all sizes and numbers of objects.

mmdet's own functions compute maps, anchors, and the boxes of anchors and regions. This module selects among
them without the data-dependent branches of mmdet, which cannot be exported. The results are those of
``predict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor, nn

from .onnx_operators import pool_regions, suppress

Size = tuple[int, int]


class Candidates(NamedTuple):
    """Boxes before non-maximum suppression.

    Attributes:
        boxes: ``(N, 4)``, corners in pixels.
        scores: ``(N,)``; -1 where there is no box.
        groups: class or level ``(N,)``; boxes of different groups do not suppress each other.
    """

    boxes: Tensor
    scores: Tensor
    groups: Tensor


def dense_candidates(
    head: BaseDenseHead, maps: Sequence[Tensor], size: Size, by_level: bool = False
) -> Candidates:
    """Return the candidates of a dense head of mmdet, those of the best ``nms_pre`` scores of each level.

    Args:
        head: the head, with ``test_cfg``.
        maps: the levels, ``(1, C, H_l, W_l)`` each.
        size: height and width of the image in pixels.
        by_level: whether boxes are grouped by level, as regions are, and no score is too low.
    """
    cfg = head.test_cfg
    cls_scores, bbox_preds, *factors = head(maps)
    boxes, scores, groups = [], [], []
    for index, (level, deltas) in enumerate(zip(cls_scores, bbox_preds)):
        logits = _rows(level, head.cls_out_channels)
        # The last of the classes of a softmax is the background.
        own = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[:, :-1]
        num_classes = own.shape[1]
        best, places = _best(own.flatten(), cfg.nms_pre)
        places, labels = places // num_classes, places % num_classes
        if not by_level:
            best = torch.where(best > cfg.get('score_thr', 0), best, -1.0)
        if factors:
            factor = factors[0][index][0].flatten().sigmoid()[places]
            best = torch.where(best < 0, best, best * factor)
        # As tensors, because ONNX has no remainder of a division by a size.
        extent = [torch.full_like(places[0], side) for side in level.shape[-2:]]
        priors = head.prior_generator.sparse_priors(
            places, extent, index, dtype=level.dtype, device=level.device
        )
        chosen = _rows(deltas, head.bbox_coder.encode_size)[places]
        boxes.append(get_box_tensor(head.bbox_coder.decode(priors, chosen, max_shape=size)))
        scores.append(best)
        groups.append(torch.full_like(labels, index) if by_level else labels)
    found = Candidates(torch.cat(boxes), torch.cat(scores), torch.cat(groups))
    least = cfg.get('min_bbox_size', -1)
    if least < 0:
        return found
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    is_large = (sides > least).all(1)
    return found._replace(scores=torch.where(is_large, found.scores, -1.0))


def remaining(candidates: Candidates, nms: Mapping, max_boxes: int) -> Tensor:
    """Return the indices of the candidates that remain after non-maximum suppression, best first.

    Args:
        candidates: the candidates.
        nms: settings as in ``test_cfg``: ``iou_threshold`` and ``class_agnostic``.
        max_boxes: number of boxes that remain at most.
    """
    boxes, scores, groups = candidates
    if not nms.get('class_agnostic', False):
        # As mmcv does it, with the same rounding: groups are moved apart.
        largest = torch.where(scores[:, None] < 0, -torch.inf, boxes).max()
        boxes = boxes + (groups.to(boxes.dtype) * (largest + 1))[:, None]
    return suppress(boxes, scores, nms['iou_threshold'], max_boxes)


def region_features(extractor: SingleRoIExtractor, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Return what a ``SingleRoIExtractor`` pools from the maps for boxes ``(N, 4)``, ``(N, C, h, w)``."""
    layers = extractor.roi_layers
    levels = list(maps[: extractor.num_inputs])
    if len(levels) == 1:
        level_of_box = torch.zeros_like(boxes[:, 0], dtype=torch.long)
    else:
        regions = F.pad(boxes, (1, 0))  # the index of the image first
        level_of_box = extractor.map_roi_levels(regions, len(levels))
    layer = layers[0]
    scales = [own.spatial_scale for own in layers]
    return pool_regions(
        levels, boxes, level_of_box, scales, list(layer.output_size), layer.sampling_ratio, layer.aligned
    )


class Detections(NamedTuple):
    """Objects of an image, best first.

    Attributes:
        boxes: ``(N, 4)``, corners (x1, y1, x2, y2) in pixels.
        scores: ``(N,)``.
        labels: ``(N,)``.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def dense_detections(
    head: BaseDenseHead, maps: Sequence[Tensor], size: Size, by_level: bool = False
) -> Detections:
    """Return the objects that a dense head of mmdet finds; see :func:`dense_candidates`."""
    candidates = dense_candidates(head, maps, size, by_level)
    kept = remaining(candidates, head.test_cfg.nms, head.test_cfg.max_per_img)
    boxes, scores, groups = (x[kept] for x in candidates)
    return Detections(boxes, scores, groups)


def region_detections(
    roi_head: BaseRoIHead, maps: Sequence[Tensor], regions: Tensor, size: Size
) -> Detections:
    """Return the objects that the box heads of mmdet's ``StandardRoIHead`` or ``CascadeRoIHead`` find.

    Args:
        roi_head: the head, with ``test_cfg``.
        maps: the levels, ``(1, C, H_l, W_l)`` each.
        regions: proposals ``(N, 4)``, corners in pixels.
        size: height and width of the image in pixels.
    """
    heads, extractors = stages(roi_head.bbox_head), stages(roi_head.bbox_roi_extractor)
    logits = []
    for index, (head, extractor) in enumerate(zip(heads, extractors)):
        own, deltas = head(region_features(extractor, maps, regions))
        logits.append(own)
        if index < len(heads) - 1:
            labels = own[:, :-1].argmax(1)
            refined = head.regress_by_class(regions, labels, deltas, dict(img_shape=size))
            regions = get_box_tensor(refined)
    scores = (sum(logits) / float(len(logits))).softmax(-1)[:, :-1]
    num_classes = scores.shape[1]
    boxes = get_box_tensor(head.bbox_coder.decode(regions, deltas, max_shape=size))
    boxes = boxes.reshape(boxes.shape[0], -1, 4).expand(-1, num_classes, -1).reshape(-1, 4)
    labels = torch.arange(num_classes, device=scores.device).expand_as(scores).reshape(-1)
    scores = scores.reshape(-1)
    cfg = roi_head.test_cfg
    candidates = Candidates(boxes, torch.where(scores > cfg.score_thr, scores, -1.0), labels)
    kept = remaining(candidates, cfg.nms, cfg.max_per_img)
    return Detections(boxes[kept], scores[kept], labels[kept])


def region_masks(roi_head: BaseRoIHead, maps: Sequence[Tensor], found: Detections) -> Tensor:
    """Return the probabilities in the cells of every box, ``(N, h, w)``, of the mask heads of such a head."""
    masks = []
    heads, extractors = stages(roi_head.mask_head), stages(roi_head.mask_roi_extractor)
    for head, extractor in zip(heads, extractors):
        masks.append(head(region_features(extractor, maps, found.boxes)).sigmoid())
    merged = masks[0] if len(masks) == 1 else torch.stack(masks).mean(0)
    return class_masks(merged, found.labels)


def class_masks(masks: Tensor, labels: Tensor) -> Tensor:
    """Return the masks ``(N, h, w)`` of labels ``(N,)`` from those of all classes, ``(N, K, h, w)``."""
    if masks.shape[1] == 1:  # the same for all classes
        return masks[:, 0]
    index = labels[:, None, None, None].expand(-1, 1, *masks.shape[2:])
    return masks.gather(1, index)[:, 0]


def stages(parts: Any) -> Sequence[Any]:
    """Return the modules of the stages of a cascade; any other module is its only stage."""
    return list(parts) if isinstance(parts, nn.ModuleList) else [parts]


def _rows(x: Tensor, channels: int) -> Tensor:
    """Return a map ``(1, A * channels, H, W)`` as ``(H * W * A, channels)``."""
    return x[0].permute(1, 2, 0).reshape(-1, channels)


def _best(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Return the highest of scores ``(N,)`` and their places, always ``number``: -1 and 0 where N is less."""
    best, places = F.pad(scores, (0, number), value=-1.0).topk(number)
    return best, torch.where(best < 0, 0, places)
