"""Times of matrix products in 16 bits, which processors without instructions for them emulate."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Literal

__all__ = ['HalfType', 'product_ratio']

HalfType = Literal['bfloat16', 'float16']

SIDE = 256
CALLS = 20
SECONDS = 0.1  # emulated, one product may take 20 ms


@cache
def product_ratio(kind: HalfType) -> float | None:
    """Return the time of a matrix product in 16 bits divided by that in float32; None without PyTorch.

    Measured on one thread, because others may be busy: the shortest times of up to 20 products, a few
    milliseconds where the type is native. There, the ratio is 0.25 to 0.5; where it is emulated, 1.3 to 60.
    It is infinite where PyTorch has no such product.
    """
    try:
        import torch
    except ImportError:
        return None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        matrices = [torch.ones(SIDE, SIDE, dtype=dtype) for dtype in (getattr(torch, kind), torch.float32)]
        half, full = (_shortest(partial(torch.mm, matrix, matrix)) for matrix in matrices)
    except RuntimeError:  # float16 before PyTorch 2.5
        return float('inf')
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
