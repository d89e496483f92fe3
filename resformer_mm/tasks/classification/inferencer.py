"""Inferencer of image classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from resformer_mm.inference.base import ResolutionInferencer, check_names

_SMALLEST_DRAWING = 224  # short side in pixels


def rank_classes(scores: Tensor, names: Sequence[str] | None, topk: int) -> dict:
    """Return scores ``(num_classes,)`` as a plain dict.

    Args:
        scores: one score per class.
        names: of the classes; without them a class is called by its number.
        topk: how many of the best classes to list.

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
    """Classify images with an mmpretrain model.

    A prediction has ``pred_label``, ``pred_class`` and ``pred_score`` of the best class, ``topk``, a list of
    the best ones (``label``, ``class``, ``score``), and ``pred_scores`` of all. A call takes the keyword
    ``topk`` (5) as well. For the rest see :class:`ResolutionInferencer`.
    """

    postprocess_kwargs = {'topk'}
    output = 'pred_score'
    default_visualizer = 'UniversalVisualizer'

    def to_dict(self, sample: BaseDataElement, topk: int = 5) -> dict:
        """Return label, class name and score of the best classes."""
        return rank_classes(sample.pred_score, self.classes, topk)

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the picture with the best class and its score written on it.

        A small picture is enlarged, so that the writing can be read.
        """
        height, width = pixels.shape[:2]
        resize = _SMALLEST_DRAWING if min(height, width) < _SMALLEST_DRAWING else None
        drawn_width = width if resize is None else width * resize / min(height, width)
        label = int(sample.pred_score.argmax())
        name = '' if self.classes is None else self.classes[label]
        # mmpretrain writes 7 points high per 224 pixels, whether or not the name then fits. A letter of its
        # font is 0.6 as wide as high.
        pixels_high = drawn_width / len(f'     Prediction: {label}, 0.00 ({name})') / 0.6
        size = np.clip(pixels_high * 72 / self.visualizer.dpi, 5, 7 * max(1, min(height, width) / 224))
        return self.visualizer.visualize_cls(
            pixels[..., ::-1], sample, self.classes, draw_gt=False, resize=resize, text_cfg=dict(size=size)
        )

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the best classes with their scores."""
        return [(entry['class'], entry['score']) for entry in prediction['topk']]

    def describe(self, prediction: dict, limit: int | None = None) -> str:
        """Return the best classes, as many as were asked for, in one line."""
        return super().describe(prediction, limit or len(prediction['topk']))
