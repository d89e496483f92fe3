"""Predictions of a test as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import DumpResults
from torch import Tensor


class DumpPredictions(DumpResults):
    """Write the predictions of a test of any task to a pickle file, one dict per sample.

    A dict is what :class:`mmengine.evaluator.DumpResults` keeps: the fields of the sample, with its meta
    information. Of a sample with label maps (``pred_sem_seg``) the class scores and the annotation are left
    out: the scores are one float per class and pixel, 160 MiB for 133 classes on 480 x 640 pixels, and all
    samples are kept until the end of the test; ``seg_map_path`` names the annotation. The labels
    ``pred_sem_seg.data``, ``(1, H, W)``, are uint8 where that holds them.

    Args:
        out_file_path: a .pkl or .pickle file.
    """

    def __init__(self, out_file_path: str) -> None:
        super().__init__(out_file_path=out_file_path)

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep the predictions of a batch; the dicts themselves belong to the other metrics too."""
        super().process(data_batch, [_without_scores(sample) for sample in predictions])


def _without_scores(sample: dict) -> dict:
    if 'data' not in sample.get('pred_sem_seg', ()):  # mmdet keeps its label maps under another name
        return sample
    kept = {key: value for key, value in sample.items() if key not in ('seg_logits', 'gt_sem_seg')}
    return {**kept, 'pred_sem_seg': {'data': _compact(sample['pred_sem_seg']['data'])}}


def _compact(labels: Tensor) -> Tensor:
    fits = labels.numel() == 0 or 0 <= labels.min() and labels.max() <= torch.iinfo(torch.uint8).max
    return labels.to(torch.uint8) if fits else labels.clone()
