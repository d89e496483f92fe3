"""Fitting the resolutions and thresholds of a cascade to a target accuracy or cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .outcomes import Outcomes
from .rule import CascadeRule

# Thresholds tried for each resolution but the last: quantiles of the confidence of what reaches it.
NUM_QUANTILES = 32


@dataclass(frozen=True)
class Operation:
    """What a cascade does on average.

    Attributes:
        accuracy: fraction of the samples that it gets right.
        cost: mean cost of a sample, in the unit of the outcomes.
        reached: fraction of the samples that reach each of its resolutions.
    """

    accuracy: float
    cost: float
    reached: tuple[float, ...]


@dataclass(frozen=True)
class Fit:
    """A cascade, and what it did on the samples that it was fitted to."""

    rule: CascadeRule
    operation: Operation


def apply_rule(rule: CascadeRule, outcomes: Outcomes) -> Operation:
    """Return what a cascade does on samples whose outcomes are known.

    Raises:
        ValueError: the rule has a resolution that the outcomes do not have, or there are no samples.
    """
    missing = [value for value in rule.resolutions if value not in outcomes.resolutions]
    if missing:
        raise ValueError(f'cascade.resolutions: no outcomes at {missing}, only at {outcomes.resolutions}')
    if not outcomes.num_samples:
        raise ValueError('cascade: no samples to apply it to')
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
    """Return the cascades that no other one beats, by rising cost: the Pareto front over all of them.

    Every ordered choice of up to ``max_stages`` of the resolutions is tried, single ones included, with
    thresholds at quantiles of the confidence.

    Args:
        outcomes: of the samples to fit to.
        confidence: name of the confidence that the outcomes hold.
        max_stages: most resolutions of one cascade.

    Raises:
        ValueError: no samples, or ``max_stages`` below 1.
    """
    if max_stages < 1:
        raise ValueError(f'max_stages must be at least 1, got {max_stages}')
    if not outcomes.num_samples:
        raise ValueError('cascade: no samples to fit to')
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
    """Yield (number right, cost per sample of all, thresholds) of cascades over ``rows`` on what is ``left``.

    Args:
        outcomes: of the samples to fit to.
        falling: samples of every resolution by falling confidence, ``(resolutions, samples)``.
        rows: the resolutions of the cascade, by index.
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
    # How many are at least as sure as each threshold; keeping all is the single resolution, tried as such.
    kept = np.searchsorted(-confidence, -thresholds, side='right')
    thresholds, kept = thresholds[kept < len(order)], kept[kept < len(order)]
    right = np.concatenate(([0], outcomes.correct[row][order].cumsum()))
    if len(rows) == 2:  # the last resolution takes the rest: all thresholds at once
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
    """Return the cheapest cascade of a front with an accuracy, or the most accurate one within a cost.

    Args:
        front: what :func:`fit_frontier` returned.
        target_accuracy: fraction that must be right.
        target_cost: what a sample may cost on average.

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
    """Return what cascades fitted to a budget reach on samples that they were not fitted to.

    The samples are parted in two halves at random. Thresholds are fitted to each half and applied to the
    other, so that every sample counts once and none helped to choose its own cascade. ``reached`` is left
    empty, because the two halves may choose different resolutions.

    Args:
        outcomes: of all samples.
        budgets: what a sample may cost on average.
        confidence: name of the confidence that the outcomes hold.
        max_stages: most resolutions of one cascade.
        seed: seed of the halves.

    Returns:
        One operation per budget; None where nothing is as cheap.

    Raises:
        ValueError: fewer than two samples.
    """
    if outcomes.num_samples < 2:
        raise ValueError(f'cascade: {outcomes.num_samples} samples cannot be parted in two halves')
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
