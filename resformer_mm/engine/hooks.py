"""Hooks."""

from __future__ import annotations

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from resformer_mm.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Report, after every training epoch, how many images the pipeline skipped as unreadable so far.

    Reads the counts of the loading transforms (``LoadImage(on_error='skip')``) of all worker processes of
    this rank; stays silent when nothing was skipped.
    """

    priority = 'LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the count of this rank."""
        pipeline = getattr(runner.train_dataloader.dataset, 'pipeline', None)
        for transform in getattr(pipeline, 'transforms', ()):
            count = getattr(transform, 'num_skipped', 0)
            if count:
                print_log(
                    f'{count} reads of unreadable training images were skipped on rank {runner.rank} so '
                    'far and replaced by other images (paths are in the warnings above)',
                    logger='current',
                    level=logging.WARNING,
                )
