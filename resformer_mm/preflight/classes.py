"""Classes of the data sets of all splits, of the heads and of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from resformer_mm.datasets.checks.report import Finding
from resformer_mm.engine.classes import (
    category_problem,
    class_names,
    folder_problem,
    head_problem,
    innermost,
    is_open_set,
    labels_of,
    number_of_classes,
    split_problem,
)
from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

from .subject import Subject

HEADS = 'number of classes'
SPLITS = 'splits with different classes'
CATEGORIES = 'classes without a category'
FOLDERS = 'folders with other labels than their names'
LABELS = 'label out of range'
NO_SAMPLES = 'classes without samples'
NO_LABELS = 'no labels'
MOST_ENTRIES = 2000


def check_heads(subject: Subject) -> Iterator[Finding]:
    """Compare the number of classes of every head with the data sets, as CheckNumClassesHook does."""
    if subject.leaves_out('num_classes') or is_open_set(subject.model):
        return
    named = set()
    for split, field, dataset in _data_sets(subject):
        labels, stated = labels_of(dataset), number_of_classes(dataset)
        for name, number in subject.heads:
            if (name, stated) in named:
                continue  # as for another split
            problem = head_problem(number, dataset, labels, f'{split}_dataloader', split == 'train')
            if problem is not None:
                named.add((name, stated))
                yield Finding(f'model.{name}.num_classes', HEADS, problem, subject.is_used(field))


def check_splits(subject: Subject) -> Iterator[Finding]:
    """Compare the data sets with each other, and with their folders, as CheckSplitsHook does."""
    if subject.leaves_out('splits') or not subject.heads or is_open_set(subject.model):
        return
    first: tuple[str, Any] | None = None
    for _, field, dataset in _data_sets(subject):
        if (lacking := category_problem(dataset, field)) is not None:
            yield Finding(field, CATEGORIES, lacking.partition(': ')[2], subject.is_used(field))
        problem, is_wrong = folder_problem(dataset, field) or ('', False)
        if is_wrong:
            yield Finding(field, FOLDERS, problem.partition(': ')[2], subject.is_used(field))
        elif problem:
            remark(field, problem.partition(': ')[2])  # as the run does
        first = first or (field, dataset)
        if (found := split_problem(first[1], dataset, (first[0], field))) is not None:
            place, _, detail = found.partition(': ')
            # What is wrong with one of them alone begins with its field.
            place, detail = (place, detail) if place in (first[0], field) else (field, found)
            yield Finding(place, SPLITS, detail, subject.is_used(place))


def check_labels(subject: Subject) -> Iterator[Finding]:
    """Check that labels are classes, and that every class of the training data has a sample."""
    labels_in = subject.known('labels')
    if labels_in is None or not subject.heads or is_open_set(subject.model):
        return
    predicted = min(number for _, number in subject.heads)
    trained: Counter[int] = Counter()
    is_complete, names, trained_on = True, None, predicted
    for split, field, dataset in _data_sets(subject):
        if not hasattr(dataset, 'get_data_info'):
            is_complete &= split != 'train'
            continue
        labels: Counter[int] = Counter()
        number = min(len(dataset), MOST_ENTRIES)
        for index in np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist():
            labels.update(labels_in(dataset.get_data_info(index)))
        stated = number_of_classes(dataset)
        classes = stated or predicted  # whether both agree is another check
        wrong = sorted(label for label in labels if not 0 <= label < classes)
        if wrong and (stated or not labels_of(dataset)):  # else the heads are compared with the labels
            yield Finding(
                field,
                LABELS,
                f'has the labels {shorten_list(list(map(str, wrong)))}, but the classes are 0 to '
                f'{classes - 1}: correct the annotations, which count from 0, or the number of classes',
                subject.is_used(field),
            )
        if split == 'train':
            trained += labels
            if getattr(dataset, 'with_label', True) is False:
                yield Finding(field, NO_LABELS, 'has no labels to learn: remove with_label=False')
            names, trained_on = names or class_names(dataset), classes
            is_complete &= len(dataset) <= MOST_ENTRIES
    absent = [label for label in range(trained_on) if label not in trained]
    if absent and trained and is_complete:
        shown = [names[label] if names and label < len(names) else str(label) for label in absent]
        yield Finding(
            'train_dataloader.dataset',
            NO_SAMPLES,
            f'{len(absent)} of {trained_on}: {shorten_list(shown)}. The model cannot learn them',
            is_fault=False,
        )


def _data_sets(subject: Subject) -> Iterator[tuple[str, str, Any]]:
    """Yield split, config field and data set, for every data set inside the wrappers of a split."""
    for split, loaded in subject.each('dataset'):
        for dataset in innermost(loaded):
            yield split, f'{split}_dataloader.dataset', dataset
