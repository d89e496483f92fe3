"""Non-maximum suppression and region pooling as operators that ``torch.export`` and ONNX know.

In PyTorch they are those of mmcv, which cannot be traced; in ONNX they are ``NonMaxSuppression`` and
``RoiAlign``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmcv import ops
from torch import Tensor

if not hasattr(torch.library, 'custom_op'):
    raise ImportError(f'the export of detectors needs PyTorch 2.10 or later, this is {torch.__version__}')

# Scores are at least 0, and those of boxes that are left out are -1.
_LEFT_OUT = -0.5


# Operators read their schema from annotations with the names of `typing`.
@torch.library.custom_op('resformer_mm::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    """Return the indices of the boxes that remain after greedy non-maximum suppression, best first.

    Args:
        boxes: ``(N, 4)``, corners (x1, y1, x2, y2).
        scores: ``(N,)``; a box with a negative one neither remains nor suppresses others.
        iou_threshold: a box is suppressed if its overlap with a better one is larger.
        max_boxes: number of boxes that remain at most.
    """
    candidates = (scores > _LEFT_OUT).nonzero().squeeze(1)
    _, kept = ops.nms(boxes[candidates], scores[candidates], iou_threshold)
    return candidates[kept[:max_boxes]]


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    # The program for several boxes is that for one or none: without this, tracing would stop where a library
    # has a shortcut for them.
    number = torch.library.get_ctx().new_dynamic_size(min=2)
    return boxes.new_empty(number, dtype=torch.long)


@torch.library.custom_op('resformer_mm::pool_regions', mutates_args=())
def pool_regions(
    levels: list[Tensor],
    boxes: Tensor,
    level_of_box: Tensor,
    scales: list[float],
    output_size: list[int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Return the averages in the cells of every box, ``(N, C, height, width)``, by RoIAlign.

    Args:
        levels: maps ``(1, C, H_l, W_l)``.
        boxes: ``(N, 4)`` in pixels, corners (x1, y1, x2, y2).
        level_of_box: index of the map from which a box is pooled, ``(N,)``.
        scales: positions of each map per pixel.
        output_size: height and width in cells.
        sampling_ratio: samples per cell and side; 0 takes as many as the cell has positions.
        aligned: whether pixel centres are at half positions.
    """
    regions = torch.cat((boxes.new_zeros(len(boxes), 1), boxes), 1)
    pooled = boxes.new_zeros(len(boxes), levels[0].shape[1], *output_size)
    for index, (level, scale) in enumerate(zip(levels, scales)):
        chosen = (level_of_box == index).nonzero().squeeze(1)
        if len(chosen):
            own = ops.roi_align(level, regions[chosen], output_size, scale, sampling_ratio, 'avg', aligned)
            pooled[chosen] = own
    return pooled


@pool_regions.register_fake
def _(
    levels: list[Tensor],
    boxes: Tensor,
    level_of_box: Tensor,
    scales: list[float],
    output_size: list[int],
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return boxes.new_empty(boxes.shape[0], levels[0].shape[1], *output_size)


def onnx_translations() -> dict[Callable, Callable]:
    """Return the operators and how they are written in ONNX, for ``torch.onnx.export``.

    Raises:
        ImportError: onnxscript is missing.
    """
    import onnxscript

    op: Any = onnxscript.opset18  # its annotations are narrower than what it accepts

    def onnx_suppress(boxes: Any, scores: Any, iou_threshold: float, max_boxes: int) -> Any:
        selected = op.NonMaxSuppression(
            op.Unsqueeze(boxes, [0]),
            op.Unsqueeze(scores, [0, 1]),
            op.Constant(value_ints=[max_boxes]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[_LEFT_OUT]),
        )  # image, class and box of each
        return op.Gather(selected, op.Constant(value_int=2), axis=1)

    def onnx_pool_regions(
        levels: Any,
        boxes: Any,
        level_of_box: Any,
        scales: list[float],
        output_size: list[int],
        sampling_ratio: int,
        aligned: bool,
    ) -> Any:
        mode = 'half_pixel' if aligned else 'output_half_pixel'
        parts, chosen = [], []
        for index, (level, scale) in enumerate(zip(levels, scales)):
            is_own = op.Equal(level_of_box, op.Constant(value_int=index))
            own = op.Squeeze(op.NonZero(is_own), [0])
            chosen.append(own)
            parts.append(
                op.RoiAlign(
                    level,
                    op.Gather(boxes, own),
                    op.Mul(own, op.Constant(value_int=0)),  # all of the only image
                    output_height=output_size[0],
                    output_width=output_size[1],
                    sampling_ratio=sampling_ratio,
                    spatial_scale=scale,
                    coordinate_transformation_mode=mode,
                )
            )
        order = op.Concat(*chosen, axis=0)
        _, places = op.TopK(order, op.Shape(order), largest=0)  # where each box is in the concatenation
        return op.Gather(op.Concat(*parts, axis=0), places)

    return {
        torch.ops.resformer_mm.suppress.default: onnx_suppress,
        torch.ops.resformer_mm.pool_regions.default: onnx_pool_regions,
    }
