"""Hooks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from resformer_mm.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Report, after every training epoch, how many images or clips were skipped as unreadable so far.

    Reads the counts of the loading transforms (``LoadImage(on_error='skip')``) of all worker processes of
    this rank, also of data sets in a wrapper that repeats or joins them; stays silent when nothing was
    skipped.
    """

    priority = 'LOW'

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the count of this rank."""
        for dataset in _innermost(runner.train_dataloader.dataset):
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


def _innermost(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data sets inside wrappers that repeat, join or balance them."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
    else:
        for one in inner:
            yield from _innermost(one)


@HOOKS.register_module()
class CheckNumClassesHook(Hook):
    """Stop a model before it runs, where a head has another number of classes than the data.

    With more classes the head would train without a complaint, with fewer a label fails deep inside a loss.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare with the training data.

        Raises:
            ValueError: a head and the data disagree.
        """
        self._check(runner, runner.train_dataloader, 'train_dataloader')

    def before_val_epoch(self, runner: Runner) -> None:
        """Compare with the validation data; raises ValueError as :meth:`before_train` does."""
        self._check(runner, runner.val_dataloader, 'val_dataloader')

    def before_test_epoch(self, runner: Runner) -> None:
        """Compare with the test data; raises ValueError as :meth:`before_train` does."""
        self._check(runner, runner.test_dataloader, 'test_dataloader')

    def _check(self, runner: Runner, loader: DataLoader, field: str) -> None:
        classes = (getattr(loader.dataset, 'metainfo', None) or {}).get('classes')
        expected = len(classes) if classes else getattr(loader.dataset, 'num_classes', None)
        if expected is None:
            return
        for name, module in runner.model.named_modules():
            number = getattr(module, 'num_classes', None)
            if name.endswith('_head') and number is not None and number != expected:
                raise ValueError(
                    f'model.{name}.num_classes is {number}, but the data set of {field} has {expected} '
                    'classes: set num_classes of every head to those of the data'
                )


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop a training at the step whose loss is no finite number, before another one or a checkpoint is made.

    Reading the loss waits for the device.
    """

    priority = 'VERY_HIGH'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: dict | None = None
    ) -> None:
        """Look at the losses of the step.

        Raises:
            FloatingPointError: they are not finite; the message names them, the step and the images.
        """
        if outputs is None or torch.isfinite(outputs['loss']).all():
            return
        values = {name: value.mean().item() for name, value in outputs.items() if 'loss' in name}
        samples = data_batch.get('data_samples', []) if isinstance(data_batch, Mapping) else []
        paths = [sample.get('img_path') for sample in samples]
        raise FloatingPointError(
            f'the loss of iteration {runner.iter + 1} on rank {runner.rank} is no finite number: {values}, '
            f'images {paths}. Lower optim_wrapper.optimizer.lr, lengthen the warm-up or set '
            'optim_wrapper.clip_grad; check the data before training, and resume from the last checkpoint'
        )


@HOOKS.register_module()
class DrawInEveryProcessHook(Hook):
    """Let every process of a test draw its share of the samples.

    Visualizers of MMEngine draw in the first process alone, so that the others' pictures are missing. What is
    logged, such as metrics and the config, still comes from the first.
    """

    logged = ('add_config', 'add_graph', 'add_scalar', 'add_scalars')

    def before_test(self, runner: Runner) -> None:
        """Take the restriction off everything that the visualizer draws with."""
        visualizer, kind = runner.visualizer, type(runner.visualizer)
        members = {}
        for name in set(dir(kind)).difference(self.logged):
            member = inspect.getattr_static(kind, name)
            if isinstance(member, property) and _is_restricted(member.fget):
                members[name] = property(member.fget.__wrapped__, member.fset and member.fset.__wrapped__)
            elif _is_restricted(member):
                members[name] = member.__wrapped__
        visualizer.__class__ = type(kind)(kind.__name__, (kind,), members)
        visualizer.dataset_meta = getattr(runner.test_dataloader.dataset, 'metainfo', None)


def _is_restricted(function: object) -> bool:
    return getattr(function, '__code__', None) is master_only(id).__code__
