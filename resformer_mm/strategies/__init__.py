"""Trainings whose weights, gradients and optimiser states are spread over the processes."""

from .averaging import ShardedEMAHook
from .fsdp import ExactFSDPStrategy, whole_state
from .settling import settle_strategy

__all__ = ['ExactFSDPStrategy', 'ShardedEMAHook', 'settle_strategy', 'whole_state']
