"""Calibration of class probabilities: whether a confidence of 80 % is right in 80 % of the cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_BINS = 15
INVERSE_RANGE = (1e-3, 1e3)
"""Range in which the inverse of a temperature is looked for."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of a model on images.

    Attributes:
        accuracy: fraction of right predictions.
        confidence: mean probability of the predicted class; above the accuracy, the model is overconfident.
        ece: expected calibration error, see :func:`expected_calibration_error`.
        nll: mean negative log-likelihood of the labels, in nats.
        temperature: what the logits are divided by for the least negative log-likelihood, of each half of the
            images; the mean of the two.
        scaled_ece: ``ece``, each half with the temperature of the other one.
    """

    accuracy: float
    confidence: float
    ece: float
    nll: float
    temperature: float
    scaled_ece: float


def measure_calibration(logits: Tensor, labels: Tensor, seed: int = 0) -> Calibration:
    """Return the calibration of predictions.

    Args:
        logits: scores before the softmax, ``(N, classes)``.
        labels: true classes, ``(N,)``.
        seed: seed of the split into halves.

    Raises:
        ValueError: there are fewer than two images.
    """
    if len(labels) < 2:
        raise ValueError(f'calibration: {len(labels)} images cannot be split into halves: give at least two')
    logits = logits.double()
    probabilities = logits.softmax(1)
    halves = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tensor_split(2)
    temperatures = [fit_temperature(logits[half], labels[half]) for half in halves]
    scaled = torch.empty_like(probabilities)
    for half, temperature in zip(halves[::-1], temperatures):
        scaled[half] = (logits[half] / temperature).softmax(1)
    confidence, predicted = probabilities.max(1)
    return Calibration(
        accuracy=float((predicted == labels).double().mean()),
        confidence=float(confidence.mean()),
        ece=expected_calibration_error(probabilities, labels),
        nll=float(torch.nn.functional.cross_entropy(logits, labels)),
        temperature=sum(temperatures) / 2,
        scaled_ece=expected_calibration_error(scaled, labels),
    )


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = NUM_BINS) -> float:
    """Return the mean difference of confidence and accuracy over bins of equal width (Guo et al., 2017).

    ``sum_b |B_b| / N * |acc(B_b) - conf(B_b)|``, where bin b of B has the confidences in
    ``((b - 1) / B, b / B]``.

    Args:
        probabilities: ``(N, classes)``.
        labels: true classes, ``(N,)``.
        bins: number of bins B.
    """
    confidence, predicted = probabilities.max(1)
    right = (predicted == labels).to(confidence.dtype)
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    index = torch.bucketize(confidence, edges[1:-1])
    # The sum of the differences in a bin is its size times the difference of its means.
    sums = confidence.new_zeros(bins).index_add_(0, index, right - confidence)
    return float(sums.abs().sum() / len(labels))


def fit_temperature(logits: Tensor, labels: Tensor, steps: int = 60) -> float:
    """Return the temperature T for which ``softmax(logits / T)`` has the least negative log-likelihood.

    The loss is convex in 1/T, so that its slope is bisected. A model that is always right has no such
    temperature; T is then the least one of the range.

    Args:
        logits: ``(N, classes)``.
        labels: true classes, ``(N,)``.
        steps: halvings of the range of log(1/T).
    """
    logits = logits.double()
    truth = logits.gather(1, labels[:, None]).mean()
    low, high = torch.tensor(INVERSE_RANGE, dtype=torch.float64).log()
    for _ in range(steps):
        middle = (low + high) / 2
        expected = ((logits * middle.exp()).softmax(1) * logits).sum(1).mean()
        low, high = (low, middle) if expected > truth else (middle, high)
    return float(torch.exp(-(low + high) / 2))
