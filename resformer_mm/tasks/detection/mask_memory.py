"""Bounded memory of instance masks in validation and test."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import LoadAnnotations
from mmdet.evaluation import CocoMetric
from mmengine.evaluator import DumpResults
from mmengine.hooks import Hook
from mmengine.runner import Runner

from resformer_mm.engine.classes import innermost
from resformer_mm.engine.failures import loaders_of

from .compact_masks import encode_in_heads, paste_in_heads
from .encoded_masks import keep_encoded
from .visualizer import ObjectVisualizer


class EncodedMasksHook(Hook):
    """Keep the masks of annotations and predictions in run-length encoding while a detector is evaluated.

    Masks stay arrays where a metric or a visualizer of another package would get them, and where predictions
    are written to a file. Pipelines that change the masks of annotations decode them first.
    """

    priority = 'VERY_HIGH'

    def before_val(self, runner: Runner) -> None:
        """Prepare the validation."""
        _prepare(runner, runner.val_loop)

    def after_val(self, runner: Runner) -> None:
        """Let the model predict arrays again."""
        paste_in_heads(runner.model)

    def before_test(self, runner: Runner) -> None:
        """Prepare the test."""
        _prepare(runner, runner.test_loop)

    def after_test(self, runner: Runner) -> None:
        """Let the model predict arrays again, as in measurements of its time."""
        paste_in_heads(runner.model)


def _prepare(runner: Runner, loop: Any) -> None:
    draws = any(getattr(hook, 'draw', False) for hook in runner.hooks)
    is_drawn = not draws or isinstance(runner.visualizer, ObjectVisualizer)
    if not is_drawn or not all(map(_takes_codes, loop.evaluator.metrics)):
        return
    encode_in_heads(runner.model)
    for loader in loaders_of(loop):
        for dataset in innermost(loader.dataset):
            for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
                if type(step) is LoadAnnotations:
                    keep_encoded(step)


def _takes_codes(metric: object) -> bool:
    """Whether a metric accepts masks in run-length encoding."""
    if isinstance(metric, DumpResults):
        return False
    kind = type(metric)
    return kind is CocoMetric or kind.__module__.partition('.')[0] == __name__.partition('.')[0]
