"""Training loops that back-propagate each copy of a batch in turn, to save memory.

The gradients equal those of the joint step, since no gradient reaches a teacher. The peak memory is that of
the largest copy instead of the sum of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from resformer_mm.registry import LOOPS

from .objective import MultiResolutionObjective, enumerate_copies
from .partial_copies import Taught


def train_by_turns(model: nn.Module, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
    """Forward and back-propagate each copy in turn, then step; return the losses for the log.

    Works with gradient accumulation, mixed precision and distributed training, in which gradients are
    synchronised once, with the last copy.

    Args:
        model: a model with the :class:`~resformer_mm.engine.objective.MultiResolutionObjective`, or its
            distributed wrapper.
        data: one batch from the data loader.
        optim_wrapper: wrapper of the optimiser.

    Raises:
        TypeError: the model has another objective.
    """
    module: Any = model.module if is_model_wrapper(model) else model
    no_sync = getattr(model, 'no_sync', nullcontext)  # of distributed wrappers
    if not isinstance(module, MultiResolutionObjective):
        raise TypeError(
            f'train_cfg.type: training turn by turn needs a model that is trained on several copies, such as '
            f'resformer_mm.MultiResolutionClassifier, not {type(module).__name__}'
        )
    with optim_wrapper.optim_context(model):
        batch = module.data_preprocessor(data, training=True)
    logged: dict[str, Tensor] = {}
    teachers: Sequence[Taught] = ()
    for one in enumerate_copies(batch['inputs']):
        is_last = one.index == one.number - 1
        with (
            nullcontext() if is_last else no_sync(),
            optim_wrapper.optim_context(model),
        ):
            losses, teachers = model(one, batch['data_samples'], mode='copy', teachers=teachers)
        loss, terms = module.parse_losses(losses)
        terms['loss'] = terms['loss'] + logged.get('loss', 0.0)
        logged.update(terms)
        if is_last:
            optim_wrapper.update_params(loss)
        else:
            optim_wrapper.backward(optim_wrapper.scale_loss(loss))
            # The wrapper counts backward passes to know when to step: only that of the last copy counts.
            optim_wrapper._inner_count -= 1
        del loss, losses
    return logged


class TurnByTurn:
    """The step of both training loops; a mixin before a loop of MMEngine."""

    runner: Runner
    _iter: int

    def _run_turns(self, index: int, data_batch: dict) -> None:
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=index, data_batch=data_batch)
        outputs = train_by_turns(runner.model, data_batch, runner.optim_wrapper)
        runner.call_hook('after_train_iter', batch_idx=index, data_batch=data_batch, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class TurnByTurnEpochLoop(TurnByTurn, EpochBasedTrainLoop):
    """:class:`mmengine.runner.EpochBasedTrainLoop` that back-propagates each copy of a batch in turn.

    ``train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop', max_epochs=300)``; see :func:`train_by_turns`.
    If the base config has ``by_epoch=True``, which MMEngine accepts instead of a type, add ``_delete_=True``.
    """

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Train on one batch."""
        self._run_turns(idx, data_batch)


@LOOPS.register_module()
class TurnByTurnIterLoop(TurnByTurn, IterBasedTrainLoop):
    """:class:`mmengine.runner.IterBasedTrainLoop` that back-propagates each copy of a batch in turn.

    ``train_cfg = dict(type='resformer_mm.TurnByTurnIterLoop', max_iters=80000)``; see :func:`train_by_turns`.
    """

    def run_iter(self, data_batch: dict) -> None:
        """Train on one batch."""
        self._run_turns(self._iter, data_batch)
