"""Peak memory of a function call."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from resformer_mm.compat.kineto import without_profiler_announcements


def peak_memory(function: Callable[[], object], device: str | torch.device) -> int:
    """Return the maximum increase of memory use during a call, in bytes.

    The figure includes everything that PyTorch's allocator for the device allocates: tensors, gradients, data
    saved for the backward pass, and most scratch memory of operators. Memory allocated before the call, such
    as parameters and inputs, is not included. Memory that the call allocates and does not free is included.
    The call should not free memory that was allocated before: this lowers the figure on a GPU, but not on the
    CPU.

    On a GPU, the figure comes from the counters of :mod:`torch.cuda`, whose allocator rounds every tensor up
    to 512 bytes. On the CPU, the call runs under PyTorch's profiler, which takes time: do not time this call.

    Args:
        function: the function, which is called once.
        device: the device whose memory is measured.

    Raises:
        ValueError: the device is neither a CPU nor a CUDA GPU.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type == 'cpu':
        return _peak(_cpu_memory_events(function))
    raise ValueError(f"memory can be measured on 'cpu' and 'cuda', not on {str(device)!r}")


def _cpu_memory_events(function: Callable[[], object]) -> list[tuple[int, int]]:
    """Return address and bytes of all allocations (> 0) and releases (< 0) of the CPU allocator, in order."""
    with without_profiler_announcements(), tempfile.TemporaryDirectory() as folder:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            function()
        # Exporting a trace is the documented way to get these events.
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    events = [event for event in events if event.get('name') == '[memory]']
    events.sort(key=lambda event: event['ts'])
    cpu = 0  # device type in ATen
    return [(e['args']['Addr'], e['args']['Bytes']) for e in events if e['args']['Device Type'] == cpu]


def _peak(events: list[tuple[int, int]]) -> int:
    held: dict[int, int] = {}
    now = peak = 0
    for address, size in events:
        # Releases of blocks allocated before the call are ignored.
        now -= held.pop(address, 0)
        if size > 0:
            held[address] = size
            now += size
            peak = max(peak, now)
    return peak
