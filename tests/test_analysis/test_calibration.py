"""Calibration against loops over the images, and temperatures against the loss around them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resformer_mm.analysis.calibration import (
    expected_calibration_error,
    fit_temperature,
    measure_calibration,
)


def predictions(samples: int = 300, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, classes, generator=generator)
    labels = torch.multinomial((logits / 1.7).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def literal_ece(probabilities: Tensor, labels: Tensor, bins: int) -> float:
    total = 0.0
    for index in range(bins):
        confidences, hits = [], []
        for row, label in zip(probabilities.tolist(), labels.tolist()):
            confidence = max(row)
            if index / bins < confidence <= (index + 1) / bins:
                confidences.append(confidence)
                hits.append(row.index(confidence) == label)
        if hits:
            gap = sum(hits) / len(hits) - sum(confidences) / len(confidences)
            total += len(hits) / len(labels) * abs(gap)
    return total


@pytest.mark.parametrize('bins', [1, 4, 15])
def test_calibration_error_is_that_of_the_loop(bins: int) -> None:
    logits, labels = predictions()
    probabilities = logits.double().softmax(1)
    expected = literal_ece(probabilities, labels, bins)
    assert expected > 0.01
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected)


def test_calibration_error_of_known_predictions() -> None:
    certain = torch.eye(2)[[0, 0, 1, 1]]
    assert expected_calibration_error(certain, torch.tensor([0, 0, 1, 1])) == 0
    assert expected_calibration_error(certain, torch.tensor([0, 1, 1, 0])) == pytest.approx(0.5)
    # On the edge of two bins it counts to the lower one, with 0.45 alone: one of two is right.
    half = torch.tensor([[0.5, 0.3, 0.2], [0.45, 0.3, 0.25]], dtype=torch.float64)
    error = expected_calibration_error(half, torch.tensor([0, 1]), bins=2)
    assert error == pytest.approx(abs(0.5 - 0.475))


def test_no_temperature_near_the_fitted_one_is_better() -> None:
    logits, labels = predictions()
    temperature = fit_temperature(logits, labels)
    assert 1.2 < temperature < 2.4  # the labels were drawn at 1.7

    def loss(divisor: float) -> float:
        return F.cross_entropy(logits.double() / divisor, labels).item()

    assert loss(temperature) <= min(loss(0.99 * temperature), loss(1.01 * temperature), loss(1.0))
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * temperature, rel=1e-6)


def test_each_half_is_scaled_by_the_temperature_of_the_other() -> None:
    logits, labels = predictions(400)
    measured = measure_calibration(logits, labels, seed=3)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    first, second = order[:200], order[200:]
    of_first, of_second = (fit_temperature(logits[half], labels[half]) for half in (first, second))
    scaled = torch.cat((logits[first].double() / of_second, logits[second].double() / of_first)).softmax(1)
    assert measured.scaled_ece == pytest.approx(literal_ece(scaled, labels[order], 15))
    assert measured.scaled_ece < measured.ece
    assert measured.temperature == pytest.approx((of_first + of_second) / 2)
    assert measured.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert measured.confidence == pytest.approx(logits.double().softmax(1).amax(1).mean().item())
    right = logits.double().log_softmax(1)[torch.arange(400), labels]
    assert measured.nll == pytest.approx(-right.mean().item())


def test_always_right_has_the_least_temperature() -> None:
    assert fit_temperature(torch.eye(3), torch.arange(3)) == pytest.approx(1e-3, rel=1e-3)
    assert math.isfinite(measure_calibration(torch.eye(4), torch.arange(4)).nll)


def test_one_image_has_no_halves() -> None:
    with pytest.raises(ValueError, match='at least two'):
        measure_calibration(torch.ones(1, 3), torch.zeros(1, dtype=torch.long))
