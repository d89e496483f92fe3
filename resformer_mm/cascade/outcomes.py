"""Per-sample confidence and correctness at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from resformer_mm.files import write_atomically

from .rule import confidence_function


@dataclass(frozen=True)
class Outcomes:
    """Confidence and correctness of the predictions of a model.

    Attributes:
        resolutions: in pixels, low to high.
        confidence: ``(resolutions, samples)``.
        correct: ``(resolutions, samples)``, boolean.
        cost: cost per sample at each resolution, ``(resolutions,)``, e.g. in GFLOPs.

    Raises:
        ValueError: the shapes are inconsistent, or the resolutions are not low to high.
    """

    resolutions: tuple[int, ...]
    confidence: np.ndarray
    correct: np.ndarray
    cost: np.ndarray

    def __post_init__(self) -> None:
        if list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f'outcomes: resolutions must be low to high, got {self.resolutions}')
        count = len(self.resolutions)
        if self.confidence.shape != self.correct.shape or len(self.confidence) != count:
            raise ValueError('outcomes: confidence and correct must be of shape (resolutions, samples)')
        if self.cost.shape != (count,):
            raise ValueError(f'outcomes: cost must hold one value for each of {count} resolutions')

    @property
    def num_samples(self) -> int:
        """Number of samples."""
        return self.confidence.shape[1]

    def select(self, samples: np.ndarray) -> Outcomes:
        """Return the outcomes of some samples, given by their indices."""
        return Outcomes(self.resolutions, self.confidence[:, samples], self.correct[:, samples], self.cost)


class OutcomeMetric(BaseMetric):
    """Collects confidence and correctness of every prediction, in addition to the metrics of a config.

    Predictions need ``pred_score`` and ``gt_label``, like those of image classifiers and action recognizers.
    Without them there are no outcomes.

    Args:
        confidence: name of the confidence function, see :class:`CascadeRule`.
    """

    default_prefix = 'cascade'

    def __init__(self, confidence: str = 'max_probability') -> None:
        super().__init__(collect_device='cpu')
        self.function = confidence_function(confidence)
        self.outcomes: tuple[np.ndarray, np.ndarray] | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Add the predictions of a batch."""
        for sample in data_samples:
            scores, label = sample.get('pred_score'), sample.get('gt_label')
            if scores is None or label is None or torch.as_tensor(label).numel() != 1:
                self.results.append(None)
                continue
            scores = torch.as_tensor(scores).float().cpu()
            correct = int(scores.argmax()) == int(torch.as_tensor(label))
            self.results.append((float(self.function(scores)), correct))

    def compute_metrics(self, results: list) -> dict:
        """Set ``outcomes``, ``(samples,)`` each, or None if predictions have no class scores or labels."""
        self.outcomes = None
        if results and None not in results:
            confidence, correct = zip(*results)
            self.outcomes = np.array(confidence, dtype=np.float32), np.array(correct, dtype=bool)
        return {}


def save_outcomes(path: Path, confidence: np.ndarray, correct: np.ndarray) -> None:
    """Write the outcomes of a resolution atomically."""
    with write_atomically(path) as partial:
        np.savez_compressed(partial, confidence=confidence, correct=correct)


def load_outcomes(paths: dict[int, Path], cost: dict[int, float]) -> Outcomes:
    """Read the files of :func:`save_outcomes`.

    Args:
        paths: resolution -> file.
        cost: resolution -> cost per sample.

    Raises:
        ValueError: the files have different numbers of samples.
    """
    resolutions = tuple(sorted(paths))
    confidence, correct = [], []
    for resolution in resolutions:
        with np.load(paths[resolution]) as content:
            confidence.append(content['confidence'])
            correct.append(content['correct'])
    if len({len(row) for row in correct}) != 1:
        raise ValueError(
            f'{[str(path) for path in paths.values()]} are not of the same samples: measure them again'
        )
    costs = np.array([cost[resolution] for resolution in resolutions])
    return Outcomes(resolutions, np.stack(confidence), np.stack(correct), costs)
