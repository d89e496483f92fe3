"""Times of variants that run in alternating order in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def alternate(
    variants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1, device: str = 'cpu'
) -> dict[str, list[float]]:
    """Return the seconds of every variant in every round.

    Every round runs all variants and starts with another one, so that a temporary slowdown of the machine
    affects all of them.

    Args:
        variants: what is run, by name.
        rounds: number of rounds that count.
        warmup: number of rounds before them.
        device: device that is waited for.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(warmup + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            _wait(device)
            start = time.perf_counter()
            variants[name]()
            _wait(device)
            if number >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def _wait(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def ratios(times: Mapping[str, list[float]], name: str, baseline: str) -> tuple[float, float, float]:
    """Return the median, smallest and largest ratio of two variants within a round."""
    found = [one / other for one, other in zip(times[name], times[baseline])]
    return statistics.median(found), min(found), max(found)
