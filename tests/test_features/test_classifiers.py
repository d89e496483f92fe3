"""Nearest neighbours and linear probes, against their definitions."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest

from resformer_mm.features.neighbours import nearest_neighbours
from resformer_mm.features.probe import STRENGTHS, fit_probe, split_training
from resformer_mm.finetuning.splitting import Split

pytest.importorskip('sklearn')


def clouds(number: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Points around three centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(3, 6))
    labels = np.arange(number) % 3
    return (centres[labels] + spread * rng.normal(size=(number, 6))).astype(np.float32), labels


def literal(train, labels, query, number, temperature) -> int:
    """The vote of DINO for one query, written out."""
    similarities = []
    for place, row in enumerate(train):
        dot = sum(float(a) * float(b) for a, b in zip(row, query))
        norms = math.sqrt(sum(float(a) ** 2 for a in row)) * math.sqrt(sum(float(b) ** 2 for b in query))
        similarities.append((dot / norms, place))
    votes: dict[int, float] = defaultdict(float)
    for similarity, place in sorted(similarities, reverse=True)[:number]:
        votes[int(labels[place])] += math.exp(similarity / temperature)
    return max(votes, key=lambda label: votes[label])


@pytest.mark.parametrize(('number', 'temperature'), [(1, 0.07), (5, 0.07), (20, 0.07), (20, 5.0)])
def test_neighbours_vote_as_written_out(number, temperature):
    (train, labels), (queries, _) = clouds(60), clouds(40, seed=1, spread=2)
    found = nearest_neighbours(train, labels, queries, number, temperature)
    assert found.tolist() == [literal(train, labels, query, number, temperature) for query in queries]


def test_the_temperature_matters_and_does_not_overflow():
    train = np.array([[1, 0.0], [0, 1], [0.05, 1]], np.float32)
    query = np.array([[1, 0.3]], np.float32)
    labels = np.array([4, 7, 7])
    assert nearest_neighbours(train, labels, query, 3, 1e-4).tolist() == [4]
    assert nearest_neighbours(train, labels, query, 3, 10.0).tolist() == [7]


@pytest.mark.parametrize(
    ('number', 'temperature', 'message'), [(0, 1, 'from 1 to 9'), (10, 1, 'from 1 to 9'), (1, 0, 'positive')]
)
def test_bad_options_of_neighbours(number, temperature, message):
    train, labels = clouds(9)
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(train, labels, train, number, temperature)


def test_the_regularisation_is_that_of_the_best_accuracy_on_held_out_training_images():
    from sklearn.linear_model import LogisticRegression

    features, labels = clouds(60, spread=2)
    split = Split(list(range(45)), list(range(45, 60)), '')
    probe = fit_probe(features, labels, split)
    known = features[:45].astype(np.float64)
    mean, std = known.mean(axis=0), known.std(axis=0)
    accuracies = {}
    for strength in STRENGTHS:
        reference = LogisticRegression(C=strength, max_iter=1000).fit((known - mean) / std, labels[:45])
        accuracies[strength] = reference.score((features[45:].astype(np.float64) - mean) / std, labels[45:])
    assert probe.held_out == pytest.approx(accuracies) and len(set(accuracies.values())) > 1
    best = max(accuracies.values())
    assert probe.strength == min(strength for strength, value in accuracies.items() if value == best)
    everything = features.astype(np.float64)
    scaled = (everything - everything.mean(axis=0)) / everything.std(axis=0)
    final = LogisticRegression(C=probe.strength, max_iter=1000).fit(scaled, labels)
    assert probe.predict(features).tolist() == final.predict(scaled).tolist() and probe.has_converged


def test_one_class_is_refused():
    with pytest.raises(ValueError, match='of one class'):
        fit_probe(np.ones((4, 2)), np.zeros(4, int), Split([0, 1], [2, 3], ''))


def test_sequences_stay_on_one_side():
    names = [f'street{street}_{frame}' for street in range(8) for frame in range(4)]
    paths = [f'/data/{label}/{name}.jpg' for label in 'ab' for name in names]
    split = split_training(paths, [int('/b/' in path) for path in paths])
    streets = [
        {paths[place].rpartition('_')[0].rpartition('/')[2] for place in side}
        for side in (split.train, split.val)
    ]
    assert not streets[0] & streets[1] and len(split.val) > 0
