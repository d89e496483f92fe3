"""Hooks that stop a run whose heads, splits or lists do not agree on the classes."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from resformer_mm.registry import HOOKS
from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

from .classes import (
    category_problem,
    class_heads,
    folder_problem,
    innermost,
    is_open_set,
    labels_of,
    number_of_classes,
    parts_of_classes,
    split_problem,
)


@HOOKS.register_module()
class CheckNumClassesHook(Hook):
    """Stop a run before its first step if the number of classes of a head differs from that of the data.

    With too many classes the head trains without an error; with too few a label fails deep inside a loss.
    See :func:`~resformer_mm.engine.classes.class_heads` for what a head is. Where a data set has labels, but
    states no classes, the largest label counts. Not checked are models of other classes than those of the
    data on purpose, such as retrieval, tracking and detection by text.

    Args:
        ignore: names of heads that do not predict the classes of the data, such as a region proposal network.
    """

    def __init__(self, ignore: Sequence[str] = ('rpn_head', 'semantic_head')) -> None:
        self.ignore = tuple(ignore)

    def before_train(self, runner: Runner) -> None:
        """Compare with the training data, and with the validation data of the run.

        Raises:
            ValueError: the two numbers differ.
        """
        self._check(runner, runner.train_dataloader, 'train_dataloader')
        if getattr(runner, 'val_loop', None) is not None:
            self._check(runner, runner.val_dataloader, 'val_dataloader')

    def before_val_epoch(self, runner: Runner) -> None:
        """Compare with the validation data; raises ValueError as :meth:`before_train` does."""
        self._check(runner, runner.val_dataloader, 'val_dataloader')

    def before_test_epoch(self, runner: Runner) -> None:
        """Compare with the test data; raises ValueError as :meth:`before_train` does."""
        self._check(runner, runner.test_dataloader, 'test_dataloader')

    def _check(self, runner: Runner, loader: DataLoader, field: str) -> None:
        heads = [] if is_open_set(runner.model) else list(class_heads(runner.model, self.ignore))
        for dataset in innermost(loader.dataset) if heads else ():
            expected = number_of_classes(dataset)
            if expected is None:
                _check_labels(heads, labels_of(dataset), field, is_training=field == 'train_dataloader')
                continue
            for name, number in heads:
                if number != expected and number not in parts_of_classes(dataset):
                    raise ValueError(
                        f'model.{name}.num_classes is {number}, but the data set of {field} has {expected} '
                        'classes: set num_classes of every head to that of the data'
                    )


def _check_labels(
    heads: Sequence[tuple[str, int]], labels: Sequence[int], field: str, is_training: bool
) -> None:
    """Compare heads with the labels of a list that states no classes."""
    if not labels:
        return
    occurring = set(labels)
    lowest, highest = min(occurring), max(occurring)
    where = f'the data set of {field} has the labels {lowest} to {highest} and states no classes'
    remedy = 'set metainfo.classes (or num_classes, for videos) of the data set to all classes'
    for name, number in heads:
        if lowest == 1 and highest == number:
            raise ValueError(
                f'model.{name}.num_classes is {number}, but {where}: they seem to count from 1. Subtract 1 '
                'from every label of the list'
            )
        if not 0 <= lowest <= highest < number:
            raise ValueError(
                f'model.{name}.num_classes is {number}, but {where}: {remedy}, and num_classes of the head'
            )
        if is_training and highest + 1 < number and occurring == set(range(highest + 1)):
            raise ValueError(
                f'model.{name}.num_classes is {number}, but {where}: {number - highest - 1} outputs would '
                f'never be learned. Set num_classes of the head to {highest + 1}. If there are more '
                f'classes: {remedy}'
            )
        if is_training and (absent := sorted(set(range(number)) - occurring)):
            remark(f'{field}.dataset', f'no sample of the classes {shorten_list(list(map(str, absent)))}')


@HOOKS.register_module()
class CheckSplitsHook(Hook):
    """Stop a run before its first step if splits have different classes, or an annotation file lacks some.

    The classes are those of the training data. Folders that one split lacks, or spells in another way, shift
    every later label of it. Not checked are models that are tested on other classes than those of the
    training on purpose, such as retrieval, and data sets without classes.
    """

    priority = 'ABOVE_NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Compare the data sets of training and validation, also those inside wrappers.

        Raises:
            ValueError: they have different classes.
        """
        if is_open_set(runner.model) or not any(class_heads(runner.model)):
            return
        datasets = [
            ('train_dataloader.dataset', dataset) for dataset in innermost(runner.train_dataloader.dataset)
        ]
        if getattr(runner, 'val_loop', None) is not None:
            datasets += [
                ('val_dataloader.dataset', dataset) for dataset in innermost(runner.val_dataloader.dataset)
            ]
        for name, dataset in datasets:
            _check_labels_of_names(dataset, name)
        (first_name, first), *others = datasets
        for name, other in others or [(first_name, first)]:
            if (problem := split_problem(first, other, (first_name, name))) is not None:
                raise ValueError(problem)

    def before_test(self, runner: Runner) -> None:
        """Compare the folders, or the annotation file, of the test set with its classes.

        Raises:
            ValueError: the classes have other labels than the folders of their names, or are not in the file.
        """
        if not is_open_set(runner.model):
            for dataset in innermost(runner.test_dataloader.dataset):
                _check_labels_of_names(dataset, 'test_dataloader.dataset')


def _check_labels_of_names(dataset: Dataset, name: str) -> None:
    if (lacking := category_problem(dataset, name)) is not None:
        raise ValueError(lacking)
    problem, is_wrong = folder_problem(dataset, name) or ('', False)
    if is_wrong:
        raise ValueError(problem)
    if problem:
        remark(name, problem.partition(': ')[2])
