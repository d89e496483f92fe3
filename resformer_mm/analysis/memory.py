"""How much memory a call needs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from resformer_mm.compat.kineto import without_profiler_announcements


def peak_memory(function: Callable[[], object], device: str | torch.device) -> int:
    """Return by how many bytes the memory in use rises during a call, at its highest.

    Counted is what PyTorch's allocator for the device gives out: tensors, gradients, what is saved for the
    backward pass, most scratch memory of operators. Parameters, inputs and whatever else is there before the
    call are not counted; what the call allocates and still holds at its end is. The call should free
    nothing that was there before: on a GPU this lowers the figure, on the CPU it does not.

    On a GPU the counters of :mod:`torch.cuda` tell; its allocator rounds every tensor up to 512 bytes. On
    the CPU the call runs under PyTorch's profiler, which takes time: do not time this call.

    Args:
        function: what is run, once.
        device: whose memory is meant.

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
    raise ValueError(f"memory is measured on 'cpu' and 'cuda', not on {str(device)!r}")


def _cpu_memory_events(function: Callable[[], object]) -> list[tuple[int, int]]:
    """Return address and bytes of what the CPU allocator gave out (> 0) and took back (< 0), in order."""
    with without_profiler_announcements():
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            function()
    with tempfile.TemporaryDirectory() as folder:  # the exported trace is the documented way to these events
        path = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    events = [event for event in events if event.get('name') == '[memory]']
    events.sort(key=lambda event: event['ts'])
    cpu = 0  # the enumeration of devices in ATen
    return [(e['args']['Addr'], e['args']['Bytes']) for e in events if e['args']['Device Type'] == cpu]


def _peak(events: list[tuple[int, int]]) -> int:
    held: dict[int, int] = {}
    now = peak = 0
    for address, size in events:
        # A block from before the call may be taken back under it: only what the call allocated counts.
        now -= held.pop(address, 0)
        if size > 0:
            held[address] = size
            now += size
            peak = max(peak, now)
    return peak
