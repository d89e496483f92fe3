"""Which points nobody beats."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Return the indices of the points that no other one beats, by rising cost.

    A point is beaten by one that costs no more and is worth no less, and differs in one of the two. Of equal
    points the first stays.

    Args:
        costs: what is to be small.
        values: what is to be large, one for every cost.
    """
    front: list[int] = []
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -values[index], index))
    for index in order:
        if not front or values[index] > values[front[-1]]:
            front.append(index)
    return front
