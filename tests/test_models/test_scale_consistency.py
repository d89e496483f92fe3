"""Each consistency loss against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from resformer_mm.models import CosineConsistency, KLConsistency, L2Consistency, SmoothL1Consistency
from resformer_mm.registry import MODELS

LOSSES = [SmoothL1Consistency, L2Consistency, CosineConsistency, KLConsistency]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """A student and a teacher ``(3, 5)``, some entries further apart than 1, some closer."""
    generator = torch.Generator().manual_seed(0)
    student = 2 * torch.randn(3, 5, generator=generator)
    return student, torch.randn(3, 5, generator=generator) + 1


def whitened(teacher: Tensor) -> Tensor:
    rows = []
    for row in teacher.double():
        mean = sum(row) / len(row)
        variance = sum((x - mean) ** 2 for x in row) / len(row)
        rows.append((row - mean) / math.sqrt(variance + 1e-6))
    return torch.stack(rows)


def smooth_l1(student: Tensor, teacher: Tensor, beta: float = 1.0) -> float:
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        gap = abs(s - t)
        total += gap**2 / (2 * beta) if gap < beta else gap - beta / 2
    return total / student.numel()


def squared(student: Tensor, teacher: Tensor) -> float:
    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    return sum((s - t) ** 2 for s, t in pairs) / student.numel()


def one_minus_cosine(student: Tensor, teacher: Tensor) -> float:
    values = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        dot = sum(a * b for a, b in zip(s, t, strict=True))
        values.append(1 - dot / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t)))
    return sum(values) / len(values)


@pytest.mark.parametrize('weight', [1.0, 0.25])
def test_the_losses_equal_their_formulas(pair: tuple[Tensor, Tensor], weight: float) -> None:
    student, teacher = pair
    white = whitened(teacher)
    cases = [
        (SmoothL1Consistency(loss_weight=weight), smooth_l1(student, white)),
        (SmoothL1Consistency(loss_weight=weight, beta=0.3), smooth_l1(student, white, 0.3)),
        (SmoothL1Consistency(loss_weight=weight, whiten=False), smooth_l1(student, teacher)),
        (L2Consistency(loss_weight=weight), squared(student, teacher)),
        (L2Consistency(loss_weight=weight, whiten=True), squared(student, white)),
        (CosineConsistency(loss_weight=weight), one_minus_cosine(student, teacher)),
        (CosineConsistency(loss_weight=weight, whiten=True), one_minus_cosine(student, white)),
    ]
    for loss, expected in cases:
        value = loss(student, teacher)
        assert value.shape == ()
        assert value.item() == pytest.approx(weight * expected, rel=1e-5), loss


@pytest.mark.parametrize('temperature', [0.5, 1.0, 4.0])
def test_kl_is_the_divergence_from_teacher_to_student(
    pair: tuple[Tensor, Tensor], temperature: float
) -> None:
    student, teacher = pair
    divergence = kl_divergence(
        Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
    )
    actual = KLConsistency(temperature, loss_weight=0.5)(student, teacher)
    expected = 0.5 * temperature**2 * divergence.mean()
    torch.testing.assert_close(actual, expected)


def test_kl_gradient_hardly_depends_on_the_temperature(pair: tuple[Tensor, Tensor]) -> None:
    """For high temperatures, the square keeps the gradient at the difference of the centred logits."""
    student, teacher = pair[0].double().requires_grad_(), pair[1].double()
    KLConsistency(1e3)(student, teacher).backward()
    gap = (student - teacher).detach()
    expected = (gap - gap.mean(dim=1, keepdim=True)) / gap.numel()
    torch.testing.assert_close(student.grad, expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize('loss_class', LOSSES)
def test_no_gradient_reaches_the_teacher(loss_class: type, pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = (x.requires_grad_() for x in pair)
    loss_class()(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize('loss_class', LOSSES)
def test_zero_for_equal_inputs(loss_class: type, pair: tuple[Tensor, Tensor]) -> None:
    """Nothing to learn where student and teacher agree; smooth L1 compares with the whitened one."""
    student = whitened(pair[0]).float()
    assert loss_class()(student, student).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('loss_class', LOSSES)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_computed_in_float32(loss_class: type, dtype: torch.dtype, pair: tuple[Tensor, Tensor]) -> None:
    student, teacher = (x.to(dtype) for x in pair)
    loss = loss_class()
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(value, loss(student, teacher))


def test_whitening_does_not_overflow_in_half_precision() -> None:
    teacher = torch.tensor([[300.0, -300.0, 0.0, 100.0]], dtype=torch.float16)
    assert SmoothL1Consistency()(torch.zeros(1, 4), teacher).isfinite()


def test_only_smooth_l1_whitens_and_only_kl_needs_probabilities() -> None:
    assert SmoothL1Consistency().whiten
    assert not any(loss().whiten for loss in LOSSES[1:])
    assert [loss().compares_probabilities for loss in LOSSES] == [False, False, False, True]


@pytest.mark.parametrize('name', [loss.__name__ for loss in LOSSES])
def test_builds_by_name(name: str) -> None:
    assert type(MODELS.build(dict(type=name))).__name__ == name


@pytest.mark.parametrize('temperature', [0.0, -1.0])
def test_bad_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match='consistency.temperature must be positive'):
        KLConsistency(temperature)
