"""Inferencer of image classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from resformer_mm.inference.base import ResolutionInferencer, check_names
from resformer_mm.picture_text import literal_text, one_line

_SMALLEST_DRAWING = 224  # short side in pixels


def rank_classes(scores: Tensor, names: Sequence[str] | None, topk: int) -> dict:
    """Return the scores of an image as a plain dict.

    Args:
        scores: one score per class, ``(num_classes,)``.
        names: names of the classes; None uses their numbers.
        topk: number of best classes to list.

    Raises:
        ValueError: there are more or fewer names than classes, or ``topk`` is not positive.
    """
    if topk < 1:
        raise ValueError(f'topk must be at least 1, got {topk}')
    check_names(names, len(scores))
    values = scores.detach().cpu().float()
    top = [
        {
            'label': label,
            'class': str(label) if names is None else str(names[label]),
            'score': float(values[label]),
        }
        for label in values.topk(min(topk, len(values))).indices.tolist()
    ]
    best = top[0]
    return {
        'pred_label': best['label'],
        'pred_class': best['class'],
        'pred_score': best['score'],
        'topk': top,
        'pred_scores': values.tolist(),
    }


class ClassificationInferencer(ResolutionInferencer):
    """Inferencer of image classifiers from mmpretrain.

    A prediction has ``pred_label``, ``pred_class`` and ``pred_score`` of the best class, ``topk``, a list of
    the best classes (``label``, ``class``, ``score``), and ``pred_scores`` of all classes. A call also takes
    the keyword ``topk`` (5). For the rest see :class:`ResolutionInferencer`.
    """

    postprocess_kwargs = {'topk'}
    output = 'pred_score'
    default_visualizer = 'mmpretrain.UniversalVisualizer'

    def to_dict(self, sample: BaseDataElement, topk: int = 5) -> dict:
        """Return label, class name and score of the best classes."""
        return rank_classes(sample.pred_score, self.classes, topk)

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the image with the best class and its score written on it.

        A small image is enlarged to keep the text legible.
        """
        height, width = pixels.shape[:2]
        resize = _SMALLEST_DRAWING if min(height, width) < _SMALLEST_DRAWING else None
        drawn_width = width if resize is None else width * resize / min(height, width)
        label = int(sample.pred_score.argmax())
        name = '' if self.classes is None else one_line(self.classes[label])
        # mmpretrain uses 7 points per 224 pixels, whether or not the name then fits. In its font, letters are
        # 0.6 times as wide as high.
        pixels_high = drawn_width / len(f'     Prediction: {label}, 0.00 ({name})') / 0.6
        size = np.clip(pixels_high * 72 / self.visualizer.dpi, 5, 7 * max(1, min(height, width) / 224))
        names = None if self.classes is None else [one_line(entry) for entry in self.classes]
        with literal_text(name):
            return self.visualizer.visualize_cls(
                pixels[..., ::-1], sample, names, draw_gt=False, resize=resize, text_cfg=dict(size=size)
            )

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the best classes with their scores."""
        return [(entry['class'], entry['score']) for entry in prediction['topk']]

    def describe(self, prediction: dict, limit: int | None = None) -> str:
        """Return the best classes in one line; by default all that the prediction lists."""
        return super().describe(prediction, limit or len(prediction['topk']))
