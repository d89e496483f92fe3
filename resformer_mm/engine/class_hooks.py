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
    head_problem,
    hidden_classes,
    innermost,
    is_open_set,
    labels_of,
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
        is_training = field == 'train_dataloader'
        for dataset in innermost(loader.dataset) if heads else ():
            labels = labels_of(dataset)
            for name, number in heads:
                if (problem := head_problem(number, dataset, labels, field, is_training)) is not None:
                    raise ValueError(f'model.{name}.num_classes {problem}')
                if labels and is_training and (absent := sorted(set(range(number)) - set(labels))):
                    shown = shorten_list(list(map(str, absent)))
                    remark(f'{field}.dataset', f'no sample of the classes {shown}')


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
            ValueError: a hidden folder counts as a class, or classes have other labels than the folders of
                their names, or are not in the file.
        """
        if not is_open_set(runner.model):
            for dataset in innermost(runner.test_dataloader.dataset):
                if (problem := hidden_classes(dataset, 'test_dataloader.dataset')) is not None:
                    raise ValueError(problem)
                _check_labels_of_names(dataset, 'test_dataloader.dataset')


def _check_labels_of_names(dataset: Dataset, name: str) -> None:
    if (lacking := category_problem(dataset, name)) is not None:
        raise ValueError(lacking)
    problem, is_wrong = folder_problem(dataset, name) or ('', False)
    if is_wrong:
        raise ValueError(problem)
    if problem:
        remark(name, problem.partition(': ')[2])
