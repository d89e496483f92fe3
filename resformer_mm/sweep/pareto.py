"""Pareto front."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], values: Sequence[float], lower_is_better: bool = False) -> list[int]:
    """Return the indices of the points that no other one beats, by rising cost.

    A point is beaten by one that costs no more and is no worse, and differs in one of the two. Of equal
    points the first stays.

    Args:
        costs: what is to be small.
        values: of a metric, one for every cost.
        lower_is_better: whether a lower value of the metric is better.
    """
    sign = -1 if lower_is_better else 1
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -sign * values[index], index)):
        if not front or sign * values[index] > sign * values[front[-1]]:
            front.append(index)
    return front
