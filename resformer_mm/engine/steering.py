"""Frequencies of resolutions that follow the losses of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from resformer_mm.registry import HOOKS

ENTRY = 'steered_resolutions'


class SteerResolutionsHook(Hook):
    """Set the weights of the drawn resolutions after every epoch, from the losses of the epoch.

    The batch sampler is one that draws by weights, such as
    :class:`~resformer_mm.datasets.samplers.ResolutionBatchSampler`. A rule is a subclass with
    :meth:`choose_weights`. The supervised losses of each resolution are averaged over the epoch and over all
    processes, so the weights are the same everywhere. They change between epochs alone, because a loader
    draws batches before the model needs them: a run that is resumed within an epoch could not repeat the
    draws otherwise.

    A checkpoint has the weights and the losses so far, and a resumed run continues with them. Its entry
    'steered_resolutions' also has the frequencies in every epoch. Logs have them as ``share_224``.

    Args:
        floor: part of the frequencies that all resolutions share equally, from 0, not included, to 1.

    Raises:
        ValueError: ``floor`` is out of range; or, before training, the batch sampler draws nothing by
            weights, or the loop does not count epochs.
    """

    def __init__(self, floor: float = 0.2) -> None:
        if not 0 < floor <= 1:
            raise ValueError(
                f'custom_hooks: {type(self).__name__}.floor = {floor!r} must be above 0, because a '
                'resolution that is never drawn has no loss to learn from, and at most 1'
            )
        self.floor = floor
        self.resolutions: list[int] = []
        self.state: dict[str, Any] = {}
        self._sampler: Any = None
        self._weights: list[float] | None = None
        self._history: list[list[float]] = []  # by epoch
        self._sums: dict[int, tuple[Tensor, int]] = {}

    def choose_weights(self, losses: Mapping[int, float], state: dict[str, Any]) -> Sequence[float]:
        """Return positive weights, one for each of ``self.resolutions``.

        Args:
            losses: resolution -> mean loss of the last epoch; without those that were not drawn.
            state: what the rule keeps from epoch to epoch, empty at first; saved in checkpoints.
        """
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Find the batch sampler, and set the weights of a resumed run."""
        name = f'custom_hooks: {type(self).__name__}'
        sampler: Any = runner.train_dataloader.batch_sampler
        self._sampler = getattr(sampler, 'batch_sampler', sampler)  # of a wrapper that numbers the batches
        if not hasattr(self._sampler, 'set_weights'):
            raise ValueError(
                f'{name} steers how often resolutions are drawn, but {type(self._sampler).__name__} draws '
                "none: set train_dataloader.batch_sampler=dict(type='resformer_mm.ResolutionBatchSampler')"
            )
        if getattr(self._sampler, 'number', 0) == len(self._sampler.resolutions):
            raise ValueError(
                f'{name} has nothing to steer: every batch has all {self._sampler.number} resolutions. Lower '
                'train_dataloader.batch_sampler.number'
            )
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                f'{name} changes weights after epochs: set train_cfg to a loop that counts epochs'
            )
        self.resolutions = list(self._sampler.resolutions)
        self._sampler.set_weights(self._shares(self._weights or [1.0]))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Add the losses of a step; nothing waits for the device."""
        inputs = (data_batch or {}).get('inputs')
        copies = len(inputs) if isinstance(inputs, (list, tuple)) else 1  # their losses are divided by it
        for resolution in self.resolutions:
            end = f'_{resolution}'
            found = [
                value.detach()
                for name, value in (outputs or {}).items()
                if name.startswith('loss_') and name.endswith(end) and 'consistency' not in name
            ]
            if found:
                total, count = self._sums.get(resolution, (torch.zeros((), dtype=torch.float64), 0))
                # In double precision, as checkpoints have it: a resumed run has the same sum.
                self._sums[resolution] = total.to(found[0].device) + copies * sum(found).double(), count + 1

    def after_train_epoch(self, runner: Runner) -> None:
        """Choose the weights of the next epoch."""
        losses = self._mean_losses(runner)
        self._sums = {}
        self._history.append(self._shares(self._weights or [1.0]))
        if losses:
            weights = np.asarray(self.choose_weights(losses, self.state), dtype=float)
            self._weights = (weights / weights.sum()).tolist()
            self._sampler.set_weights(self._shares(self._weights))
        for resolution, share in zip(self.resolutions, self._shares(self._weights or [1.0])):
            runner.message_hub.update_scalar(f'train/share_{resolution}', share)

    def _shares(self, weights: Sequence[float]) -> list[float]:
        """Return weights, or one weight for all, as frequencies with the floor."""
        number = len(self.resolutions)
        values = np.broadcast_to(np.asarray(weights, dtype=float), number)
        return (self.floor / number + (1 - self.floor) * values / values.sum()).tolist()

    def _mean_losses(self, runner: Runner) -> dict[int, float]:
        """Return resolution -> mean loss in all processes."""
        device = next(runner.model.parameters()).device
        sums = torch.zeros(2, len(self.resolutions), dtype=torch.float64, device=device)
        for number, resolution in enumerate(self.resolutions):
            if resolution in self._sums:
                sums[0, number], sums[1, number] = self._sums[resolution]
        all_reduce(sums)
        totals, counts = sums.tolist()
        return {
            resolution: total / count
            for resolution, total, count in zip(self.resolutions, totals, counts)
            if count
        }

    # Checkpoints.

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save what is the same in all processes."""
        checkpoint[ENTRY] = dict(weights=self._weights, state=self.state, history=self._history)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore it, if the run resumes."""
        if runner._resume and ENTRY in checkpoint:
            saved = checkpoint[ENTRY]
            self._weights, self.state, self._history = saved['weights'], saved['state'], saved['history']

    def process_state(self) -> dict[int, tuple[float, float]]:
        """Return the losses of this process in this epoch: resolution -> sum and number."""
        return {resolution: (float(total), count) for resolution, (total, count) in self._sums.items()}

    def load_process_states(self, states: Sequence[Mapping[int, tuple[float, float]]]) -> None:
        """Restore the losses of this process; of several processes of another run, the mean of theirs."""
        for resolution in dict.fromkeys(size for state in states for size in state):
            found = [state.get(resolution, (0.0, 0)) for state in states]
            total, count = (sum(values) / len(states) for values in zip(*found))
            self._sums[resolution] = torch.tensor(total, dtype=torch.float64), count


@HOOKS.register_module()
class LossGapHook(SteerResolutionsHook):
    """Draw a resolution the more often, the further its loss is above that of the best one.

    The frequency is ``floor / K + (1 - floor) * gap / sum of gaps`` for K resolutions; the gap of a
    resolution is the difference of its mean loss from the smallest one. Small images usually have the largest
    loss and cost least.

    Args:
        floor: part of the frequencies that all resolutions share equally.
    """

    def __init__(self, floor: float = 0.5) -> None:
        super().__init__(floor)

    def choose_weights(self, losses: Mapping[int, float], state: dict[str, Any]) -> Sequence[float]:
        """Return the gaps; those that were never drawn have the mean gap, and without a gap all are alike."""
        known: dict[int, float] = state.setdefault('losses', {})
        known.update(losses)  # of an earlier epoch, if a resolution was not drawn in this one
        least = min(known.values())
        gaps = {resolution: loss - least for resolution, loss in known.items()}
        mean = sum(gaps.values()) / len(gaps)
        if mean == 0:
            return [1.0] * len(self.resolutions)
        return [gaps.get(resolution, mean) for resolution in self.resolutions]


@HOOKS.register_module()
class LossProgressHook(SteerResolutionsHook):
    """Draw a resolution the more often, the more its loss falls per pixel: a bandit over the resolutions.

    The reward of a resolution is the decrease of its mean loss since the last epoch in which it was drawn,
    divided by its number of pixels, and scaled so that the largest of an epoch is 1 or -1. The logarithm of
    its weight is ``decay`` times what it was, plus ``rate`` times the reward: exponential weights, with the
    progress per cost of Graves et al. (2017) as the reward. As all resolutions are drawn in an epoch, all
    rewards are known, and none has to be estimated from the draws.

    Args:
        floor: part of the frequencies that all resolutions share equally.
        rate: size of a step, positive.
        decay: part of the logarithm that is kept in every epoch, 0 to 1, because rewards change.

    Raises:
        ValueError: see :class:`SteerResolutionsHook`; or ``rate`` or ``decay`` is out of range.
    """

    def __init__(self, floor: float = 0.2, rate: float = 1.0, decay: float = 0.9) -> None:
        super().__init__(floor)
        if not rate > 0 or not 0 <= decay <= 1:
            raise ValueError(
                f'custom_hooks: LossProgressHook.rate = {rate!r} must be positive, and decay = {decay!r} in '
                '[0, 1]'
            )
        self.rate, self.decay = rate, decay

    def choose_weights(self, losses: Mapping[int, float], state: dict[str, Any]) -> Sequence[float]:
        """Return the exponential weights."""
        before: dict[int, float] = state.setdefault('losses', {})
        logs: dict[int, float] = state.setdefault('logs', {})
        rewards = {size: (before[size] - losses[size]) / size**2 for size in losses if size in before}
        scale = max(map(abs, rewards.values()), default=0.0) or 1.0
        for size in self.resolutions:
            logs[size] = self.decay * logs.get(size, 0.0) + self.rate * rewards.get(size, 0.0) / scale
        before.update(losses)
        values = np.array([logs[size] for size in self.resolutions])
        return np.exp(values - values.max()).tolist()
