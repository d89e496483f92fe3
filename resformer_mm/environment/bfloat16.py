"""Time of a matrix product in bfloat16, for processors whose instructions are not known."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter

__all__ = ['bfloat16_ratio']

SIDE = 256
CALLS = 20
SECONDS = 0.1  # emulated, one product may take 20 ms


@cache
def bfloat16_ratio() -> float | None:
    """Return the time of a matrix product in bfloat16 divided by that in float32; None without PyTorch.

    Measured on one thread, because others may be busy: the shortest times of up to 20 products, a few
    milliseconds where bfloat16 is native. There, the ratio is about 0.5; where it is emulated, 3 to 60.
    """
    try:
        import torch
    except ImportError:
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        matrices = [torch.ones(SIDE, SIDE, dtype=kind) for kind in (torch.bfloat16, torch.float32)]
        half, full = (_shortest(partial(torch.mm, matrix, matrix)) for matrix in matrices)
    finally:
        torch.set_num_threads(threads)
    return half / full


def _shortest(function: Callable[[], object]) -> float:
    """Return the shortest time of several calls in seconds."""
    function()  # prepares the kernel
    times: list[float] = []
    while len(times) < CALLS and sum(times) < SECONDS:
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return min(times)
