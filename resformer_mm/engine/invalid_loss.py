"""A hook that stops a training, in all its processes, when its loss or its weights are not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from mmengine.dist import get_comm_device, get_world_size
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
    per step: it is sent after the step, while they go on, and read before the next one. So all of them stop
    at the same place, with a message that names the process.

    A gradient scaler skips a step whose gradients are not finite, and lowers its scale, so the weights are
    intact and training goes on. If it skips :data:`MOST_SKIPPED` such steps in a row, a scale is not the
    reason, and training stops.

    Checkpoints with weights that are not finite are refused too: gradients may break before the loss does.
    """

    priority = 'HIGH'  # after the RuntimeInfoHook of MMEngine, which reads the losses

    def __init__(self) -> None:
        self._skipped = 0
        self._step: _Step | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the loss of the step; in one process, stop here.

        Raises:
            FloatingPointError: the loss is not finite; the message has its terms, the step and the files of
                the batch.
        """
        problem = None
        if values := _broken_losses(outputs or {}):
            shown = ', '.join(f'{name} {value:g}' for name, value in values.items())
            problem = f'the loss is not finite at iteration {runner.iter + 1} on rank {runner.rank}: {shown}'
            if files := paths_in(data_batch):
                problem += f'; files of the batch: {shorten_list(files)}'
            if get_world_size() > 1 and not self._is_excused(runner):
                # Before the others know: a launcher ends all processes once the first one has failed.
                print_log(problem, logger='current', level=logging.ERROR)
        self._step = _Step(runner.iter + 1, runner.rank, problem)
        if get_world_size() == 1:
            self._finish(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Stop if the last step was broken in any process."""
        self._finish(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Stop if the last step was broken in any process."""
        self._finish(runner)

    def before_val(self, runner: Runner) -> None:
        """Stop if the last step was broken in any process."""
        self._finish(runner)

    def after_train(self, runner: Runner) -> None:
        """Stop if the last step was broken in any process."""
        self._finish(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the last step and the weights.

        Raises:
            FloatingPointError: a loss or a weight is not finite.
        """
        self._finish(runner)
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

    def _finish(self, runner: Runner) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        problem = step.problem_anywhere()
        if problem is None:
            self._skipped = 0
            return
        if not self._is_excused(runner):
            raise FloatingPointError(f'{problem}. {REMEDY}')
        self._skipped += 1

    def _is_excused(self, runner: Runner) -> bool:
        """Whether a gradient scaler skips the step, and has not yet skipped too many."""
        return self._skipped + 1 < MOST_SKIPPED and _has_scaler(getattr(runner, 'optim_wrapper', None))


class _Step:
    """What a step was like in this process, sent to the others.

    Args:
        iteration: number of the step, from 1.
        rank: rank of this process.
        problem: what is wrong with the step in this process; None if nothing is.
    """

    def __init__(self, iteration: int, rank: int, problem: str | None) -> None:
        self._iteration = iteration
        self._problem = problem
        self._broken_rank = self._work = None
        if get_world_size() > 1:
            code = -1 if problem is None else rank
            self._broken_rank = torch.full((1,), code, dtype=torch.int32, device=get_comm_device())
            largest = torch.distributed.ReduceOp.MAX
            self._work = torch.distributed.all_reduce(self._broken_rank, largest, async_op=True)

    def problem_anywhere(self) -> str | None:
        """Return what is wrong with the step in any process; None if nothing is."""
        if self._work is None or self._broken_rank is None:
            return self._problem
        self._work.wait()
        rank = int(self._broken_rank)
        if rank < 0 or self._problem is not None:
            return self._problem
        return f'the loss is not finite at iteration {self._iteration} on rank {rank}, which names the files'


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
