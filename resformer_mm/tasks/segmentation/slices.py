"""Label map of a large image from the scores of its slices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from resformer_mm.inference.slicing import Region, SliceGrid, SliceMerger, Span, span_weights


@dataclass
class _Open:
    """Weighted scores ``(K, h, w)`` of a part of the image, and how many slices are still to come."""

    scores: Tensor
    missing: int


class LabelMapMerger(SliceMerger):
    """Merger of label maps: scores are averaged where slices overlap.

    The scores are the logits that the model compares, as in mmsegmentation's own slide mode (probabilities
    for a model with a single output), with the weights of
    :func:`~resformer_mm.inference.slicing.span_weights`. The borders of all slices cut the image into cells.
    The labels of a cell are fixed as soon as its last slice is there, so only the scores of cells between two
    slices are in memory: overlap x short side of the image x classes x 4 bytes.

    Args:
        grid: the slices.
        model: a segmentor.
    """

    def __init__(self, grid: SliceGrid, model: BaseModel) -> None:
        self.grid, self.model = grid, model
        self._rows, self._columns = _cells(grid.rows), _cells(grid.columns)
        self._row_weights = dict(zip(grid.rows, span_weights(grid.rows, grid.height)))
        self._column_weights = dict(zip(grid.columns, span_weights(grid.columns, grid.width)))
        self._open: dict[tuple[Span, Span], _Open] = {}
        self._labels: Tensor | None = None

    def add(self, region: Region, sample: SegDataSample) -> None:
        """Take over the scores of a slice, ``seg_logits`` ``(K, h, w)`` in pixels of the image."""
        scores = sample.seg_logits.data
        if self._labels is None:
            dtype = torch.uint8 if len(scores) <= torch.iinfo(torch.uint8).max else torch.int16
            self._labels = torch.zeros((1, self.grid.height, self.grid.width), dtype=dtype)
        rows, columns = (region.top, region.bottom), (region.left, region.right)
        weights = [self._row_weights[rows], self._column_weights[columns]]
        vertical, horizontal = (torch.from_numpy(weight).to(scores) for weight in weights)
        for cell in product(_within(self._rows, rows), _within(self._columns, columns)):
            (top, bottom), (left, right) = cell
            down, across = (
                slice(top - region.top, bottom - region.top),
                slice(left - region.left, right - region.left),
            )
            part = scores[:, down, across]
            number = self._rows[cell[0]] * self._columns[cell[1]]
            if number > 1:
                part = part * vertical[down, None] * horizontal[across]
                found = self._open.pop(cell, None) or _Open(torch.zeros_like(part), number)
                found.scores += part
                found.missing -= 1
                if found.missing:
                    self._open[cell] = found
                    continue
                part = found.scores
            self._labels[0, top:bottom, left:right] = self._labels_of(part).to(self._labels)

    def merged(self) -> SegDataSample:
        """Return a data sample with ``pred_sem_seg``, ``(1, H, W)`` uint8, or int16 for many classes."""
        assert self._labels is not None and not self._open
        return SegDataSample(pred_sem_seg=PixelData(data=self._labels))

    def _labels_of(self, scores: Tensor) -> Tensor:
        if len(scores) == 1:
            return scores[0] > self.model.decode_head.threshold
        return scores.argmax(0)


def _cells(covering: list[Span]) -> dict[Span, int]:
    """Return the parts of one side between the ends of spans, and how many spans cover each."""
    ends = np.unique(covering).tolist()
    return {
        cell: sum(start <= cell[0] and cell[1] <= stop for start, stop in covering) for cell in pairwise(ends)
    }


def _within(cells: dict[Span, int], span: Span) -> list[Span]:
    return [cell for cell in cells if span[0] <= cell[0] and cell[1] <= span[1]]
