"""Bytes that processes really send, against those that are computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import copies, free_port
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resformer_mm.scaling import all_reduce_bytes

PROCESSES = 3


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 33), nn.GELU(), nn.Linear(33, 7))


def ring_all_reduce(counted: dict, bucket: dist.GradBucket) -> torch.futures.Future:
    """Add up the gradients of a bucket over a ring, piece by piece, and count what this process sends."""
    buffer, rank, number = bucket.buffer(), dist.get_rank(), dist.get_world_size()
    pieces = list(buffer.tensor_split(number))
    for turn in range(2 * (number - 1)):
        sent, received = pieces[(rank - turn) % number], pieces[(rank - turn - 1) % number]
        incoming = torch.empty_like(received)
        request = dist.isend(sent.clone(), (rank + 1) % number)
        dist.recv(incoming, (rank - 1) % number)
        request.wait()
        received.copy_(received + incoming if turn < number - 1 else incoming)
        counted['sent'] += sent.nbytes
    future: torch.futures.Future = torch.futures.Future()
    future.set_result(buffer.div_(number))
    return future


# PyTorch compares the annotations with its classes, and these are texts.
ring_all_reduce.__annotations__ = {}


def train_with_a_ring(counted: dict) -> None:
    torch.manual_seed(1)
    inputs = torch.randn(PROCESSES, 4, 10)
    wrapped = DistributedDataParallel(model(), bucket_cap_mb=0.001)
    wrapped.register_comm_hook(counted, ring_all_reduce)
    wrapped(inputs[dist.get_rank()]).square().mean().backward()
    alone = model()
    alone(inputs.flatten(0, 1)).square().mean().backward()
    for one, expected in zip(wrapped.parameters(), alone.parameters()):
        torch.testing.assert_close(one.grad, expected.grad)


def _process(rank: int, port: str, folder: str, function, arguments: tuple) -> None:
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=PROCESSES)
    counted = {'sent': 0}
    function(counted, *arguments)
    torch.save(counted, Path(folder, f'{rank}.pth'))
    dist.barrier()
    dist.destroy_process_group()


def count(folder: Path, function, *arguments: object) -> list[dict]:
    port = free_port()
    processes = [
        copies().Process(target=_process, args=(rank, port, str(folder), function, arguments))
        for rank in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f'{rank}.pth') for rank in range(PROCESSES)]


def test_a_ring_sends_what_is_computed(tmp_path: Path) -> None:
    results = count(tmp_path, train_with_a_ring)
    gradients = sum(one.nbytes for one in model().parameters())
    sent = [result['sent'] for result in results]
    assert sum(sent) == pytest.approx(PROCESSES * all_reduce_bytes(gradients, PROCESSES))
    # Pieces of a bucket differ by a number at most.
    assert sent == pytest.approx([all_reduce_bytes(gradients, PROCESSES)] * PROCESSES, abs=100)
