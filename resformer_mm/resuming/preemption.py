"""Stopping a training at the end of a step, with a checkpoint, when a signal asks for it."""

from __future__ import annotations

import logging
import os
import signal
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.dist import barrier, is_distributed
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from resformer_mm.engine.failures import loaders_of
from resformer_mm.processes import exit_status
from resformer_mm.registry import HOOKS

from .checkpoint_hook import ExactCheckpointHook
from .shielded_workers import shield_workers

EXIT_CODE = 85  # ERESTART of Linux
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1', 'SIGINT') if hasattr(signal, name))
# A launcher passes on the Ctrl-C that its processes have already got from the terminal.
_SAME = 2.0  # seconds


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and stop when a signal asks for it; save checkpoints every so many minutes.

    ``tools/train.py`` adds it to every run; ``default_hooks.preemption=None`` leaves it out.

    SIGTERM, SIGUSR1 (``--signal`` of Slurm) and Ctrl-C end the training after the current step of all
    processes, or after the validation that is under way, with the exit status :data:`EXIT_CODE`. Ctrl-C stops
    at once the second time. The processes agree once per step, through the CPU.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._signal: int | None = None
        self._since = 0.0
        self._handlers: dict[int, Any] = {}
        self._pid = os.getpid()
        self._group: Any = None

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        self._pid = os.getpid()
        if is_distributed() and torch.distributed.get_backend() != 'gloo':
            self._group = torch.distributed.new_group(backend='gloo', timeout=_timeout(runner.cfg))
        loaders = [runner.train_dataloader, *(loaders_of(runner.val_loop) if runner.val_loop else ())]
        loaders += getattr(runner.val_loop, 'shared_loaders', {}).values()
        for loader in loaders:
            if isinstance(loader, DataLoader):
                shield_workers(loader)
        for number in SIGNALS:
            try:
                self._handlers[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread
                break

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:
            # A worker that loads data goes on until the process that it works for ends.
            return
        now = time.monotonic()
        if self._signal is None:
            self._signal, self._since = number, now
        elif number == signal.SIGINT and now - self._since > _SAME:
            raise KeyboardInterrupt

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save, and stop, if it is time."""
        self._save_if_asked(runner, runner.iter + 1)

    def after_val(self, runner: Runner) -> None:
        """Save, and stop, if a signal came during validation."""
        if self._handlers:
            self._save_if_asked(runner, runner.iter)

    def _save_if_asked(self, runner: Runner, done: int) -> None:
        hook = next((hook for hook in runner.hooks if isinstance(hook, ExactCheckpointHook)), None)
        number, is_late = self._agreed(self._signal or 0, int(hook is not None and hook.is_late))
        if not number and not is_late:
            return
        if hook is not None:
            hook.save_interim(runner, done)
        if number:
            where = f'saved as {hook.last_ckpt}: go on with --resume' if hook is not None else 'not saved'
            print_log(
                f'Stopped by {signal.Signals(number).name} after iteration {done}, {where}',
                logger='current',
                level=logging.WARNING,
            )
            barrier(self._group)  # a launcher may kill the one that writes once another has ended
            raise SystemExit(exit_status(EXIT_CODE))

    def _agreed(self, *values: int) -> list[int]:
        """Return the largest of each value over the processes."""
        if not is_distributed():
            return list(values)
        tensor = torch.tensor(values)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX, group=self._group)
        return tensor.tolist()


def _timeout(cfg: Config) -> timedelta | None:
    """Return the time limit of an exchange, as it is set for the other groups of processes."""
    seconds = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
    return None if seconds is None else timedelta(seconds=seconds)
