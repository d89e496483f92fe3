"""Bytes that processes really send, against those that are computed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from runs import copies, free_port
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from resformer_mm.models.backbones import ResFormer
from resformer_mm.scaling import all_reduce_bytes, sharded_bytes
from resformer_mm.scaling.costs import Workload
from resformer_mm.strategies.fsdp import block_policy, block_units

PROCESSES = 3
ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)


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


class CountShards(TorchDispatchMode):
    """Adds up what a ring would send for the collective operations of FSDP."""

    def __init__(self, counted: dict) -> None:
        super().__init__()
        self.counted = counted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        share = (dist.get_world_size() - 1) / dist.get_world_size()
        if func.name() == 'c10d::allgather_':  # what FSDP calls on a CPU
            self.counted['sent'] += share * sum(one.nbytes for one in args[0][0])
        elif func.name() == 'c10d::_allgather_base_':
            self.counted['sent'] += share * args[0].nbytes
        elif func.name() == 'c10d::_reduce_scatter_base_':
            self.counted['sent'] += share * args[1].nbytes
        return func(*args, **(kwargs or {}))


class Copies(nn.Module):
    """A model that runs its backbone once for every copy of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResFormer(arch=ARCH, patch_size=8)

    def forward(self, images: list[Tensor]) -> Tensor:
        return sum(self.backbone(image)[-1].square().mean() for image in images)


def train_shards(counted: dict, strategy: ShardingStrategy, number: int) -> None:
    torch.manual_seed(0)
    model = Copies()
    counted['weights'] = sum(one.nbytes for one in model.parameters())
    counted['blocks'] = sum(one.nbytes for unit in block_units(model) for one in unit.parameters())
    wrapped = FullyShardedDataParallel(
        model,
        sharding_strategy=strategy,
        auto_wrap_policy=block_policy(model),
        device_id=torch.device('cpu'),
        use_orig_params=True,
    )
    images = [torch.randn(2, 3, size, size) for size in (32, 24, 16)[:number]]
    wrapped(images).backward()
    with CountShards(counted):  # a second step, which nothing initialises
        wrapped(images).backward()


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
        (ShardingStrategy.FULL_SHARD, 3, 4),
        (ShardingStrategy.SHARD_GRAD_OP, 3, 1),
    ],
)
def test_shards_send_what_is_computed(tmp_path: Path, strategy, number: int, gathers: int) -> None:
    for result in count(tmp_path, train_shards, strategy, number):
        weights, blocks = result['weights'], result['blocks']
        model = Workload('model', weights, blocks, weights, 0, 0, 0, 1, number, 1e-3, None)
        # Units are padded to a multiple of the processes.
        assert result['sent'] == pytest.approx(sharded_bytes(model, PROCESSES, gathers), rel=0.01)
