"""Trainings whose weights, gradients or optimiser states are spread over the processes."""

from .averaging import ShardedEMAHook
from .deepspeed import ExactDeepSpeedStrategy
from .fsdp import ExactFSDPStrategy, whole_state
from .settling import check_launched, leave_out_strategy, settle_strategy

__all__ = [
    'ExactDeepSpeedStrategy',
    'ExactFSDPStrategy',
    'ShardedEMAHook',
    'check_launched',
    'leave_out_strategy',
    'settle_strategy',
    'whole_state',
]
