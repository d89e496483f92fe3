"""Predictions of a test as a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import DumpResults
from torch import Tensor


class DumpLabelMaps(DumpResults):
    """Write the label maps of a segmentor to a pickle file, one dict per image.

    A dict has the meta information of the sample, with ``img_path`` and ``seg_map_path``, and
    ``pred_sem_seg.data``, ``(1, H, W)``, uint8 where that holds the labels. The scores are left out: they
    are one float per class and pixel, 160 MiB for 133 classes on 480 x 640 pixels, and all images are kept
    until the end of the test. So are the annotations, which ``seg_map_path`` names.
    """

    def process(self, data_batch: Any, predictions: Sequence[dict]) -> None:
        """Keep the label maps of a batch; the dicts themselves belong to the other metrics too."""
        kept = []
        for prediction in predictions:
            sample = {
                key: value for key, value in prediction.items() if key not in ('seg_logits', 'gt_sem_seg')
            }
            sample['pred_sem_seg'] = {'data': _compact(prediction['pred_sem_seg']['data'])}
            kept.append(sample)
        super().process(data_batch, kept)


def dump_metric(scope: str | None, out_file_path: str) -> DumpResults:
    """Return the metric that writes the predictions of a library's models to a file.

    Args:
        scope: the config's ``default_scope``.
        out_file_path: a .pkl or .pickle file.
    """
    kind = DumpLabelMaps if scope == 'mmseg' else DumpResults
    return kind(out_file_path=out_file_path)


def _compact(labels: Tensor) -> Tensor:
    fits = labels.numel() == 0 or 0 <= labels.min() and labels.max() <= torch.iinfo(torch.uint8).max
    return labels.to(torch.uint8) if fits else labels.clone()
