"""Hooks between the reading of a checkpoint and its use by a runner."""

from __future__ import annotations

import logging

from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from resformer_mm.checkpoints import CheckpointError, Weights
from resformer_mm.checkpoints.loading import fitting_adapters, starting_weights
from resformer_mm.checkpoints.models import check_strict
from resformer_mm.checkpoints.reading import weights_in
from resformer_mm.engine.classes import class_names, innermost, is_open_set, recorded_problem
from resformer_mm.resuming import check_resumable


class StartingWeightsHook(Hook):
    """Gives a training all weights of its checkpoint that fit, and tells what does not.

    MMEngine looks for the names of the model alone, in the entry 'state_dict' alone, and goes on with random
    weights if there are none.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the weights by a whole state of the model."""
        path = runner._load_from or find_latest_checkpoint(runner.work_dir)
        if runner._resume:
            check_resumable(path, checkpoint)
        state, report = starting_weights(runner.model, weights_in(checkpoint, path))
        checkpoint['state_dict'] = state
        is_whole = not report.missing and not report.unexpected
        runner.logger.log(logging.INFO if is_whole else logging.WARNING, report.summary())


class CheckWeightsHook(Hook):
    """Stops a test whose checkpoint does not fit the model, before anything is loaded."""

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights, and pass them on under the name that MMEngine looks for."""
        weights = fitting_adapters(weights_in(checkpoint, runner._load_from), runner.model)
        check_strict(runner.model, weights)
        _check_classes(runner, weights)
        checkpoint['state_dict'] = weights.state


def _check_classes(runner: Runner, weights: Weights) -> None:
    """Raise if a checkpoint was trained on other classes than those of the test set."""
    recorded = weights.dataset_meta.get('classes')
    if not recorded or isinstance(recorded, str) or is_open_set(runner.model):
        return
    for dataset in innermost(runner.test_dataloader.dataset):
        tested = class_names(dataset)
        problem = tested and recorded_problem(tuple(map(str, recorded)), tested, str(weights.path))
        if problem:
            raise CheckpointError(problem)
