"""The positions in checkpoints of MMEngine's ``FlexibleRunner``.

``FlexibleRunner.save_checkpoint`` of MMEngine 0.10 replaces the epoch and the iteration that it is given by
those of the loop, as if every checkpoint were saved in the middle of a step. The checkpoints that
``CheckpointHook`` saves after a validation are then one epoch or one iteration ahead, and a training that
goes on from them leaves a part out. ``Runner`` keeps what it is given.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner._flexible_runner import FlexibleRunner

__all__ = ['keep_positions']


def keep_positions(runner: FlexibleRunner) -> None:
    """Let a runner save the position that it is given."""
    save, hook = runner.save_checkpoint, _Positions()
    runner.register_hook(hook)

    @wraps(save)
    def save_checkpoint(*args: Any, meta: dict | None = None, **kwargs: Any) -> None:
        hook.given = dict(meta or {})
        save(*args, meta=meta, **kwargs)

    runner.save_checkpoint = save_checkpoint


class _Positions(Hook):
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Put the position that was given back."""
        checkpoint['meta'].update({key: self.given[key] for key in ('epoch', 'iter') if key in self.given})
