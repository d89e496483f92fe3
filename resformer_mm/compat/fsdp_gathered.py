"""Weights that FSDP has gathered, after the shards have changed.

After a forward pass without a backward pass, as in validation, ``FullyShardedDataParallel`` (seen in PyTorch
2.13) keeps the gathered weights of the outermost unit, and with ``SHARD_GRAD_OP`` those of all units. If the
shards change in place then, as when averaged weights take the place of the others, the next forward pass and
the next checkpoint still have the old weights. PyTorch has no public function that releases them.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp._runtime_utils import _reshard

__all__ = ['release_gathered']


def release_gathered(model: nn.Module) -> None:
    """Let a sharded model gather its weights anew when it needs them next.

    Nothing happens if it has gathered none, or is not sharded.
    """
    for unit in FullyShardedDataParallel.fsdp_modules(model):
        handle = unit._handle
        if handle is not None and handle.uses_sharded_strategy:
            _reshard(unit, handle, True)
