"""Nearest neighbours as DINO evaluates features with them (https://arxiv.org/abs/2104.14294)."""

from __future__ import annotations

import numpy as np

from .scikit_learn import import_sklearn

NUMBER, TEMPERATURE = 20, 0.07


def nearest_neighbours(
    train: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    number: int = NUMBER,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """Return the class of every query, ``(Q,)``, by a vote of its nearest neighbours.

    Neighbours are the features of the largest cosine similarity s, and vote with the weight ``exp(s / T)``.

    Args:
        train: features ``(N, C)``.
        labels: their classes, ``(N,)``.
        queries: features ``(Q, C)``.
        number: number of neighbours, at most N.
        temperature: T.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: ``number`` or ``temperature`` is out of range.
    """
    if not 1 <= number <= len(train):
        raise ValueError(f'the number of neighbours is {number}: choose from 1 to {len(train)}, the images')
    if not temperature > 0:
        raise ValueError(f'the temperature of the neighbours must be positive, got {temperature}')

    def votes(distances: np.ndarray) -> np.ndarray:
        # Distances are 1 - s. The nearest one of a query votes with 1, so that no weight overflows.
        return np.exp((distances.min(axis=1, keepdims=True) - distances) / temperature)

    import_sklearn()
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(number, weights=votes, algorithm='brute', metric='cosine')
    return classifier.fit(train.astype(np.float64), labels).predict(queries.astype(np.float64))
