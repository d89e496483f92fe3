"""Inferencer of image classification."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.structures import BaseDataElement
from torch import Tensor

from resformer_mm.inference.base import ResolutionInferencer, check_names
from resformer_mm.inference.drawing import draw_text, fitting_size
from resformer_mm.picture_text import literal_text, one_line

from .visualizer import ClassVisualizer

_SMALLEST_DRAWING = 224  # short side in pixels
_LONGEST_DRAWING = 4096  # long side in pixels up to which images are enlarged
_MARGIN = 4  # pixels between the text and the edge


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
        label = int(sample.pred_score.argmax())
        name = '' if self.classes is None else f' ({one_line(self.classes[label])})'
        if isinstance(self.visualizer, ClassVisualizer):  # without a figure of Matplotlib
            picture = _enlarged(pixels[..., ::-1])
            text = f'Prediction: {label}, {float(sample.pred_score[label]):.2f}{name}'
            draw_text(picture, text, (_MARGIN, _MARGIN), fitting_size(picture, text, _MARGIN))
            return picture
        names = None if self.classes is None else [one_line(entry) for entry in self.classes]
        with literal_text(name):
            return self.visualizer.visualize_cls(pixels[..., ::-1], sample, names, draw_gt=False)

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the best classes with their scores."""
        return [(entry['class'], entry['score']) for entry in prediction['topk']]

    def describe(self, prediction: dict, limit: int | None = None) -> str:
        """Return the best classes in one line; by default all that the prediction lists."""
        return super().describe(prediction, limit or len(prediction['topk']))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Return a copy with a short side of at least 224 pixels, unless the long one would become very long."""
    height, width = image.shape[:2]
    factor = min(_SMALLEST_DRAWING / min(height, width), max(1, _LONGEST_DRAWING / max(height, width)))
    if factor <= 1:
        return np.ascontiguousarray(image).copy()
    return mmcv.imresize(
        np.ascontiguousarray(image), (int(width * factor + 1e-6), int(height * factor + 1e-6))
    )
