"""Hooks that report skipped files, and draw in several processes."""

from __future__ import annotations

import logging

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from resformer_mm.compat.master_only import draw_in_every_process
from resformer_mm.registry import HOOKS

from .classes import innermost


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Report, after every training epoch, how many images or clips were skipped as unreadable so far.

    The counts are those of the loading transforms (``LoadImage(on_error='skip')``) in all processes and their
    workers, also of data sets inside a wrapper that repeats or joins them. Nothing is logged if nothing was
    skipped.
    """

    priority = 'LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the count."""
        datasets = innermost(runner.train_dataloader.dataset)
        pipelines = [getattr(dataset, 'pipeline', None) for dataset in datasets]
        steps = [step for pipeline in pipelines for step in getattr(pipeline, 'transforms', ())]
        count = torch.tensor(sum(getattr(step, 'num_skipped', 0) for step in steps))
        all_reduce(count)
        if count:
            print_log(
                f'{count} reads of unreadable training files were skipped so far and replaced by others. The '
                'first files are named above; tools/check_data.py CONFIG names all',
                logger='current',
                level=logging.WARNING,
            )


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
        if not is_main_process():  # each process would start a run of its own with a tracker
            backends = runner.visualizer._vis_backends
            for name in [n for n, backend in backends.items() if not isinstance(backend, LocalVisBackend)]:
                del backends[name]
        runner.visualizer.dataset_meta = getattr(runner.test_dataloader.dataset, 'metainfo', None)
