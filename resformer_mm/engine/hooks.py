"""Hooks that stop or report broken runs, and a hook for drawing in several processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from resformer_mm.compat.master_only import draw_in_every_process
from resformer_mm.registry import HOOKS

from .classes import innermost

MOST_SKIPPED = 20  # a scale of 65536 is below one by then
REMEDY = (
    'Lower optim_wrapper.optimizer.lr, lengthen the warm-up or set optim_wrapper.clip_grad; check the data '
    'before training, and resume from the last checkpoint'
)


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Report, after every training epoch, how many images or clips were skipped as unreadable so far.

    The counts are those of the loading transforms (``LoadImage(on_error='skip')``) in all worker processes of
    this rank, also of data sets inside a wrapper that repeats or joins them. Nothing is logged if nothing was
    skipped.
    """

    priority = 'LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the count of this rank."""
        for dataset in innermost(runner.train_dataloader.dataset):
            pipeline = getattr(dataset, 'pipeline', None)
            for transform in getattr(pipeline, 'transforms', ()):
                count = getattr(transform, 'num_skipped', 0)
                if count:
                    print_log(
                        f'{count} reads of unreadable training files were skipped on rank {runner.rank} so '
                        'far and replaced by others (paths are in the warnings above)',
                        logger='current',
                        level=logging.WARNING,
                    )


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop a training at the step whose loss is not finite, before the next step or checkpoint.

    ``tools/train.py`` adds it to every run; ``default_hooks.invalid_loss=None`` leaves it out. Reading the
    loss waits for the device; MMEngine does so anyway to log it.

    A gradient scaler skips a step whose gradients are not finite, and lowers its scale, so the weights are
    intact and training goes on. If it skips :data:`MOST_SKIPPED` such steps in a row, a scale is not the
    reason, and training stops.

    Checkpoints with weights that are not finite are refused too: in a distributed run the loss of another
    process may be the broken one, and gradients may break before the loss does.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._skipped = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Check the loss of the step.

        Raises:
            FloatingPointError: the loss is not finite; the message has its terms, the step and the files of
                the batch.
        """
        if outputs is None or 'loss' not in outputs or torch.isfinite(outputs['loss']).all():
            self._skipped = 0
            return
        if _has_scaler(getattr(runner, 'optim_wrapper', None)):
            self._skipped += 1
            if self._skipped < MOST_SKIPPED:
                return
        values = {
            name: value.mean().item()
            for name, value in outputs.items()
            if 'loss' in name and isinstance(value, torch.Tensor)
        }
        samples = data_batch.get('data_samples', []) if isinstance(data_batch, Mapping) else []
        samples = [sample[0] if isinstance(sample, list) else sample for sample in samples]
        files = [sample.get('img_path', sample.get('filename')) for sample in samples]
        raise FloatingPointError(
            f'the loss is not finite at iteration {runner.iter + 1} on rank {runner.rank}: {values}, files '
            f'{files}. {REMEDY}'
        )

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


def _has_scaler(optim_wrapper: object) -> bool:
    """Whether an optimiser wrapper, or one of several, scales the loss."""
    inner = getattr(optim_wrapper, 'optim_wrappers', None)
    wrappers = list(inner.values()) if isinstance(inner, dict) else [optim_wrapper]
    scalers = [getattr(wrapper, 'loss_scaler', None) for wrapper in wrappers]
    return any(scaler is not None and scaler.is_enabled() for scaler in scalers)


@HOOKS.register_module()
class DrawInEveryProcessHook(Hook):
    """Let every process of a test draw its share of the samples.

    Visualizers of MMEngine draw in the first process only, so the pictures of the others are missing. Metrics
    and the config are still logged by the first process only.
    """

    logged = ('add_config', 'add_graph', 'add_scalar', 'add_scalars')

    def before_test(self, runner: Runner) -> None:
        """Lift the restriction from the drawing methods of the visualizer."""
        draw_in_every_process(runner.visualizer, restricted=self.logged)
        runner.visualizer.dataset_meta = getattr(runner.test_dataloader.dataset, 'metainfo', None)
