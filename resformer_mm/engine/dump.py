"""Files with the predictions of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import DumpResults
from torch import Tensor


class DumpPredictions(DumpResults):
    """Write the predictions of a test of any task to a pickle file, one dict per sample.

    As in :class:`mmengine.evaluator.DumpResults`, a dict has the fields of the sample and its meta
    information. For label maps (``pred_sem_seg``), class scores and annotation are left out, since all
    samples are kept until the end of the test: one float per class and pixel is 160 MiB for 133 classes and
    480 x 640 pixels. ``seg_map_path`` names the annotation. The labels ``pred_sem_seg.data``, ``(1, H, W)``,
    are uint8 if they fit.

    Args:
        out_file_path: a .pkl or .pickle file.
    """

    def __init__(self, out_file_path: str) -> None:
        super().__init__(out_file_path=out_file_path)

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep the predictions of a batch, without changing the dicts, which the other metrics share."""
        super().process(data_batch, [_without_scores(sample) for sample in predictions])


def _without_scores(sample: dict) -> dict:
    if 'data' not in sample.get('pred_sem_seg', ()):  # in mmdet the label maps have another name
        return sample
    kept = {key: value for key, value in sample.items() if key not in ('seg_logits', 'gt_sem_seg')}
    return {**kept, 'pred_sem_seg': {'data': _compact(sample['pred_sem_seg']['data'])}}


def _compact(labels: Tensor) -> Tensor:
    fits = labels.numel() == 0 or 0 <= labels.min() and labels.max() <= torch.iinfo(torch.uint8).max
    return labels.to(torch.uint8) if fits else labels.clone()
