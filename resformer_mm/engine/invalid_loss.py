"""A hook that stops a training, in all its processes, when its loss or its weights are not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from resformer_mm.registry import HOOKS
from resformer_mm.text import shorten_list

from .failures import paths_in

MOST_SKIPPED = 20  # a scale of 65536 is below one by then
REMEDY = (
    'Check the data. Set optim_wrapper.clip_grad and resume from the last checkpoint; or lower '
    'optim_wrapper.optimizer.lr or lengthen the warm-up, and start from its weights with load_from, since a '
    'resumed training keeps its learning rate and schedule'
)


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop a training whose loss is not finite, before its next step, validation or checkpoint.

    ``tools/train.py`` adds it to every run; ``default_hooks.invalid_loss=None`` leaves it out. MMEngine reads
    every loss from the device to log it, and this hook comes after that, so it does not wait for the device.

    The loss of one process may be broken while those of the others are not. The processes exchange one number
    per step, so all of them stop at the same step, with a message that names the process. Without that, the
    others would wait for its gradients.

    A gradient scaler skips a step whose gradients are not finite, and lowers its scale, so the weights are
    intact and training goes on. If it skips :data:`MOST_SKIPPED` such steps in a row, a scale is not the
    reason, and training stops.

    Checkpoints with weights that are not finite are refused too: gradients may break before the loss does.
    """

    priority = 'HIGH'  # after the RuntimeInfoHook of MMEngine, which reads the losses

    def __init__(self) -> None:
        self._skipped = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the loss of the step in all processes.

        Raises:
            FloatingPointError: the loss is not finite; the message has its terms, the step and the files of
                the batch.
        """
        values = _broken_losses(outputs or {})
        rank = torch.tensor(runner.rank if values else -1)
        all_reduce(rank, 'max')
        if rank < 0:
            self._skipped = 0
            return
        if _has_scaler(getattr(runner, 'optim_wrapper', None)):
            self._skipped += 1
            if self._skipped < MOST_SKIPPED:
                return
        where = f'at iteration {runner.iter + 1} on rank {runner.rank if values else int(rank)}'
        problem = f'the loss is not finite {where}'
        if values:
            problem += f': {", ".join(f"{name} {value:g}" for name, value in values.items())}'
            if files := paths_in(data_batch):
                problem += f'; files of the batch: {shorten_list(files)}'
            if get_world_size() > 1:
                # A launcher may end this process before its error is shown, once another one has failed.
                print_log(problem, logger='current', level=logging.ERROR)
        else:
            problem += ', which names the files'
        barrier()
        raise FloatingPointError(f'{problem}. {REMEDY}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights.

        Raises:
            FloatingPointError: a weight is not finite.
        """
        trained = {name for name, _ in getattr(runner.model, 'module', runner.model).named_parameters()}
        for name, value in checkpoint.get('state_dict', {}).items():
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                continue
            # Infinite buffers may be masks, but what is NaN is broken.
            if value.isnan().any() or name in trained and value.isinf().any():
                raise FloatingPointError(
                    f'the weights are not finite after iteration {runner.iter}, e.g. {name}: no checkpoint '
                    f'is written. {REMEDY}'
                )


def _broken_losses(outputs: Mapping[str, Any]) -> dict[str, float]:
    """Return what a step minimised, by name, if a value of it is not finite; else nothing.

    These are the values whose names have 'loss', or all if there are none, as in a model with a training step
    of its own.
    """
    numbers = {
        name: value for name, value in outputs.items() if isinstance(value, (torch.Tensor, int, float))
    }
    watched = {name: value for name, value in numbers.items() if 'loss' in name} or numbers
    means = {
        name: value.detach().float().mean() if isinstance(value, torch.Tensor) else value
        for name, value in watched.items()
    }
    if math.isfinite(float(sum(means.values()))):  # one value is read from the device, not each
        return {}
    values = {name: float(value) for name, value in means.items()}
    return {} if all(map(math.isfinite, values.values())) else values


def _has_scaler(optim_wrapper: object) -> bool:
    """Whether an optimiser wrapper, or one of several, scales the loss."""
    inner = getattr(optim_wrapper, 'optim_wrappers', None)
    wrappers = list(inner.values()) if isinstance(inner, dict) else [optim_wrapper]
    scalers = [getattr(wrapper, 'loss_scaler', None) for wrapper in wrappers]
    return any(scaler is not None and scaler.is_enabled() for scaler in scalers)
