"""Fitting the resolutions and thresholds of a cascade to a target accuracy or cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .outcomes import Outcomes
from .rule import CascadeRule

# Number of thresholds tried per resolution except the last: quantiles of the confidence of its samples.
NUM_QUANTILES = 32


@dataclass(frozen=True)
class Operation:
    """Mean accuracy and cost of a cascade.

    Attributes:
        accuracy: fraction of correct predictions.
        cost: mean cost per sample, in the unit of the outcomes.
        reached: fraction of the samples that reach each of its resolutions.
    """

    accuracy: float
    cost: float
    reached: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """A cascade, with accuracy and cost on the samples that it was fitted to."""

    rule: CascadeRule
    operation: Operation


def apply_rule(rule: CascadeRule, outcomes: Outcomes) -> Operation:
    """Return accuracy and cost of a cascade on samples whose outcomes are known.

    Raises:
        ValueError: the rule has a resolution that the outcomes do not have, or there are no samples.
    """
    missing = [value for value in rule.resolutions if value not in outcomes.resolutions]
    if missing:
        raise ValueError(f'cascade.resolutions: no outcomes at {missing}, only at {outcomes.resolutions}')
    if not outcomes.num_samples:
        raise ValueError('cascade: no samples to apply it to: give outcomes of at least one sample')
    left = np.ones(outcomes.num_samples, dtype=bool)
    right, cost, reached = 0, 0.0, []
    for stage, resolution in enumerate(rule.resolutions):
        row = outcomes.resolutions.index(resolution)
        reached.append(float(left.mean()))
        cost += reached[-1] * float(outcomes.cost[row])
        sure = left
        if stage < len(rule.thresholds):
            sure = left & (outcomes.confidence[row] >= rule.thresholds[stage])
        right += int(outcomes.correct[row][sure].sum())
        left = left & ~sure
    return Operation(right / outcomes.num_samples, cost, tuple(reached))


def fit_frontier(outcomes: Outcomes, confidence: str = 'max_probability', max_stages: int = 3) -> list[Fit]:
    """Return the Pareto front of all cascades, in order of increasing cost.

    All increasing sequences of up to ``max_stages`` resolutions are tried, also single ones, with thresholds
    at quantiles of the confidence.

    Args:
        outcomes: outcomes of the samples to fit to.
        confidence: name of the confidence in the outcomes.
        max_stages: maximum number of resolutions of a cascade.

    Raises:
        ValueError: there are no samples, or ``max_stages`` below 1.
    """
    if max_stages < 1:
        raise ValueError(f'max_stages must be at least 1, got {max_stages}')
    if not outcomes.num_samples:
        raise ValueError('cascade: no samples to fit to: give outcomes of at least one sample')
    candidates = []
    everything = np.ones(outcomes.num_samples, dtype=bool)
    falling = np.argsort(-outcomes.confidence, axis=1, kind='stable')
    rows = range(len(outcomes.resolutions))
    for stages in range(1, min(max_stages, len(rows)) + 1):
        for chosen in itertools.combinations(rows, stages):
            for right, cost, thresholds in _try_thresholds(outcomes, falling, chosen, everything):
                candidates.append((cost, -right, chosen, thresholds))
    candidates.sort(key=lambda candidate: candidate[:2])
    front, best = [], -1
    for _, negative_right, chosen, thresholds in candidates:
        if -negative_right > best:
            best = -negative_right
            resolutions = [outcomes.resolutions[row] for row in chosen]
            rule = CascadeRule(resolutions, thresholds, confidence)
            front.append(Fit(rule, apply_rule(rule, outcomes)))
    return front


def _try_thresholds(
    outcomes: Outcomes, falling: np.ndarray, rows: Sequence[int], left: np.ndarray
) -> Iterator[tuple[int, float, tuple[float, ...]]]:
    """Yield (number correct, cost per sample of all, thresholds) of cascades for the samples in ``left``.

    Args:
        outcomes: outcomes of the samples to fit to.
        falling: indices of the samples by decreasing confidence, ``(resolutions, samples)``.
        rows: indices of the resolutions of the cascade.
        left: which samples reach the first of them, boolean.
    """
    row, total = rows[0], outcomes.num_samples
    order = falling[row][left[falling[row]]]
    cost = len(order) / total * float(outcomes.cost[row])
    if len(rows) == 1:
        yield int(outcomes.correct[row][order].sum()), cost, ()
        return
    confidence = outcomes.confidence[row][order]
    wanted = np.linspace(0, len(order), NUM_QUANTILES, endpoint=False, dtype=int)
    thresholds = np.unique(confidence[wanted]) if len(order) else confidence
    # How many samples each threshold keeps. One that keeps all is the single resolution, tried elsewhere.
    kept = np.searchsorted(-confidence, -thresholds, side='right')
    thresholds, kept = thresholds[kept < len(order)], kept[kept < len(order)]
    right = np.concatenate(([0], outcomes.correct[row][order].cumsum()))
    if len(rows) == 2:  # the last resolution predicts the rest: all thresholds at once
        last = outcomes.correct[rows[1]][order]
        further = np.concatenate(([0], last.cumsum()))
        rights = right[kept] + further[-1] - further[kept]
        costs = cost + (len(order) - kept) / total * float(outcomes.cost[rows[1]])
        yield from zip(rights.tolist(), costs.tolist(), ((float(value),) for value in thresholds))
        return
    for threshold, number in zip(thresholds, kept):
        rest = left.copy()
        rest[order[:number]] = False
        for more, further_cost, others in _try_thresholds(outcomes, falling, rows[1:], rest):
            yield int(right[number]) + more, cost + further_cost, (float(threshold), *others)


def choose(
    front: Sequence[Fit], target_accuracy: float | None = None, target_cost: float | None = None
) -> Fit:
    """Return the cheapest cascade of a front for an accuracy, or the most accurate one for a cost.

    Args:
        front: result of :func:`fit_frontier`.
        target_accuracy: minimum fraction of correct predictions.
        target_cost: maximum mean cost per sample.

    Raises:
        ValueError: not exactly one target is given, or none of the cascades meets it.
    """
    if target_cost is not None and target_accuracy is None:
        good = [fit for fit in front if fit.operation.cost <= target_cost]
        if not good:
            raise ValueError(f'target cost {target_cost:g}: the cheapest costs {front[0].operation.cost:g}')
        return good[-1]
    if target_accuracy is not None and target_cost is None:
        good = [fit for fit in front if fit.operation.accuracy >= target_accuracy]
        if not good:
            raise ValueError(
                f'target accuracy {target_accuracy:.4f}: the best reaches {front[-1].operation.accuracy:.4f}'
            )
        return good[0]
    raise ValueError('cascade: give either a target accuracy or a target cost')


def cross_fit(
    outcomes: Outcomes,
    budgets: Sequence[float],
    confidence: str = 'max_probability',
    max_stages: int = 3,
    seed: int = 0,
) -> list[Operation | None]:
    """Return accuracy and cost of cascades on samples that they were not fitted to.

    The samples are split randomly into two halves. A cascade is fitted to each half and applied to the other,
    so every sample counts once, with a cascade that was not fitted to it. ``reached`` is empty, because the
    cascades of the two halves may have different resolutions.

    Args:
        outcomes: outcomes of all samples.
        budgets: maximum mean costs per sample.
        confidence: name of the confidence in the outcomes.
        max_stages: maximum number of resolutions of a cascade.
        seed: seed of the split.

    Returns:
        One operation per budget; None if every cascade costs more.

    Raises:
        ValueError: fewer than two samples.
    """
    if outcomes.num_samples < 2:
        raise ValueError(f'cascade: {outcomes.num_samples} samples cannot be split into two halves')
    order = np.random.default_rng(seed).permutation(outcomes.num_samples)
    middle = len(order) // 2
    halves = [outcomes.select(order[:middle]), outcomes.select(order[middle:])]
    fronts = [fit_frontier(half, confidence, max_stages) for half in halves]
    results: list[Operation | None] = []
    for budget in budgets:
        if any(front[0].operation.cost > budget for front in fronts):
            results.append(None)
            continue
        parts = [
            apply_rule(choose(front, target_cost=budget).rule, other)
            for front, other in zip(fronts, halves[::-1])
        ]
        weights = np.array([half.num_samples for half in halves[::-1]]) / outcomes.num_samples
        accuracy = float(weights @ [part.accuracy for part in parts])
        cost = float(weights @ [part.cost for part in parts])
        results.append(Operation(accuracy, cost, ()))
    return results
