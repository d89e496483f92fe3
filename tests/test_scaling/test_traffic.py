"""Bytes that processes really send, against those that are computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import copies, free_port
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from resformer_mm.models.backbones import ResFormer
from resformer_mm.models.layers.block import Block
from resformer_mm.scaling import all_reduce_bytes, sharded_bytes
from resformer_mm.scaling.costs import Workload

PROCESSES = 3
ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 33), nn.GELU(), nn.Linear(33, 7))


def workload(bytes_: int, copies_: int = 1) -> Workload:
    return Workload('model', bytes_, bytes_, 2 * bytes_, bytes_, 4 * bytes_, 128, copies_, 1e-3, 1024)


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


class CountShards(TorchDispatchMode):
    """Adds up what a ring would send for the collective operations of FSDP."""

    def __init__(self, counted: dict) -> None:
        super().__init__()
        self.counted = counted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        share = (dist.get_world_size() - 1) / dist.get_world_size()
        if func.name() == 'c10d::_allgather_base_':
            self.counted['sent'] += share * args[0].nbytes
        elif func.name() == 'c10d::_reduce_scatter_base_':
            self.counted['sent'] += share * args[1].nbytes
        return func(*args, **(kwargs or {}))


def train_shards(counted: dict, strategy: ShardingStrategy, number: int) -> None:
    torch.manual_seed(0)
    backbone = ResFormer(arch=ARCH, patch_size=8, out_type='raw')
    counted['bytes'] = sum(one.nbytes for one in backbone.parameters())
    wrapped = FullyShardedDataParallel(
        nn.Sequential(backbone),
        sharding_strategy=strategy,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        device_id=torch.device('cpu'),
        use_orig_params=True,
    )
    images = [torch.randn(2, 3, size, size) for size in (32, 24, 16)[:number]]
    with CountShards(counted):
        losses = [out[-1].square().mean() for out in (wrapped[0](image) for image in images)]
        sum(losses).backward()


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


@pytest.mark.parametrize(
    ('strategy', 'number', 'gathers'),
    [
        (ShardingStrategy.FULL_SHARD, 1, 2),
        (ShardingStrategy.FULL_SHARD, 3, 6),
        (ShardingStrategy.SHARD_GRAD_OP, 3, 1),
    ],
)
def test_shards_send_what_is_computed(tmp_path: Path, strategy, number: int, gathers: int) -> None:
    results = count(tmp_path, train_shards, strategy, number)
    for result in results:
        print(result, sharded_bytes(workload(result['bytes']), PROCESSES, gathers))
