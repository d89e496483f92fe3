"""Pareto front."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], values: Sequence[float], lower_is_better: bool = False) -> list[int]:
    """Return the indices of the points that no other point dominates, in order of increasing cost.

    A point dominates another if it is better in cost or metric and not worse in the other. Of equal points
    only the first is returned.

    Args:
        costs: costs of the points.
        values: metrics of the points.
        lower_is_better: whether a lower value of the metric is better.
    """
    sign = -1 if lower_is_better else 1
    front: list[int] = []
    for index in sorted(range(len(costs)), key=lambda index: (costs[index], -sign * values[index], index)):
        if not front or sign * values[index] > sign * values[front[-1]]:
            front.append(index)
    return front
