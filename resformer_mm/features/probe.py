"""Linear probes: logistic regression on features."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resformer_mm.finetuning.splitting import Split, split_samples

from .scikit_learn import import_sklearn

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Values of C, the inverse of the regularisation, among which one is chosen."""
MOST_STEPS = 1000


@dataclass(frozen=True)
class LinearProbe:
    """A trained probe.

    Attributes:
        classifier: pipeline of scikit-learn: standardisation and logistic regression.
        strength: its C.
        held_out: accuracy of each C on the part of the training data that chose it.
        has_converged: whether the optimiser came to an end.
    """

    classifier: Any
    strength: float
    held_out: dict[float, float]
    has_converged: bool

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the class of every row, ``(N,)``."""
        return self.classifier.predict(features.astype(np.float64))


def split_training(paths: Sequence[str], labels: Sequence[int]) -> Split:
    """Split training images into those that train and those that choose the regularisation.

    Images of one sequence stay together, as in the split of a fine-tuning.

    Raises:
        ValueError: they cannot be split.
    """
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    names = [os.path.relpath(os.path.abspath(path), root) for path in paths]
    # Sequences are told by the names inside of a class folder.
    inside = [name.partition(os.sep)[2] or name for name in names]
    return split_samples(inside, [[int(label)] for label in labels])


def fit_probe(
    features: np.ndarray, labels: np.ndarray, split: Split, strengths: Sequence[float] = STRENGTHS
) -> LinearProbe:
    """Fit a probe on training features; no other data is seen.

    Args:
        features: ``(N, C)``.
        labels: their classes, ``(N,)``.
        split: of :func:`split_training`. The C with the best accuracy on its second part is taken, of equal
            ones the smallest, and the probe is fitted again on all N.
        strengths: the values of C.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: the features are of one class alone.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError('the training images are of one class: a classifier needs two or more')
    features = features.astype(np.float64)
    held_out = {}
    for strength in sorted(strengths):
        classifier, _ = _fit(features[split.train], labels[split.train], strength)
        held_out[strength] = float(classifier.score(features[split.val], labels[split.val]))
    best = max(held_out, key=lambda strength: (held_out[strength], -strength))
    classifier, has_converged = _fit(features, labels, best)
    return LinearProbe(classifier, best, held_out, has_converged)


def _fit(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[Any, bool]:
    """Return a fitted classifier, and whether the optimiser came to an end."""
    import_sklearn()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=MOST_STEPS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', ConvergenceWarning)
        classifier.fit(features, labels)
    return classifier, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
