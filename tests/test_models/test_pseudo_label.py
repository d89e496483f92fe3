"""The loss of unlabelled images against a literal loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from resformer_mm.registry import MODELS


def build(**kwargs):
    return MODELS.build(dict(type='resformer_mm.PseudoLabelConsistency', **kwargs))


def scores(seed: int, number: int = 6) -> Tensor:
    return 2 * torch.randn(number, 4, generator=torch.Generator().manual_seed(seed))


def probabilities(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def literal(student: Tensor, teacher: Tensor, temperature: float, threshold: float) -> float:
    total = 0.0
    for own, taught in zip(student.tolist(), teacher.tolist()):
        if max(probabilities(taught, 1)) < threshold:
            continue
        if temperature:
            target = probabilities(taught, temperature)
        else:
            target = [float(value == max(taught)) for value in taught]
        total -= sum(q * math.log(p) for q, p in zip(target, probabilities(own, 1)))
    return total / len(student)


@pytest.mark.parametrize('temperature', [1.0, 0.5, 0.0])
@pytest.mark.parametrize('threshold', [0.0, 0.7])
def test_the_loss_is_the_sum_of_the_definition(temperature: float, threshold: float) -> None:
    student, teacher = scores(0), scores(1)
    loss = build(temperature=temperature, threshold=threshold, loss_weight=1.5)(student, teacher)
    expected = 1.5 * literal(student, teacher, temperature, threshold)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_what_counts() -> None:
    teacher = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]])
    assert build(threshold=0.9).counts(teacher).tolist() == [1, 0]
    assert build().counts(teacher).tolist() == [1, 1]


def test_no_gradient_reaches_the_teacher_or_images_that_do_not_count() -> None:
    student = scores(0).requires_grad_()
    teacher = torch.cat((torch.zeros(3, 4), 9 * torch.eye(4)[:3])).requires_grad_()
    build(threshold=0.9)(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad[:3].abs().max() == 0 and student.grad[3:].abs().min() > 0


@pytest.mark.parametrize(
    ('kwargs', 'name'), [(dict(temperature=-1), 'temperature'), (dict(threshold=1.5), 'threshold')]
)
def test_errors(kwargs: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f'unlabelled.{name} must'):
        build(**kwargs)
