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
    innermost,
    is_open_set,
    number_of_classes,
    split_problem,
)
from resformer_mm.text import shorten_list

from .subject import Subject

HEADS = 'number of classes'
SPLITS = 'splits with different classes'
CATEGORIES = 'classes without a category'
LABELS = 'label out of range'
NO_SAMPLES = 'classes without samples'
MOST_ENTRIES = 2000


def check_classes(subject: Subject) -> Iterator[Finding]:
    """Compare the classes of all data sets with each other and with the heads."""
    heads = subject.heads
    if not heads:
        return
    first: tuple[str, Any] | None = None
    for split, loaded in subject.each('dataset'):
        field = f'{split}_dataloader.dataset'
        for dataset in innermost(loaded):
            expected = number_of_classes(dataset)
            for name, number in heads:
                if expected not in (None, number):
                    yield Finding(
                        f'model.{name}.num_classes',
                        HEADS,
                        f'is {number}, but {field} has {expected} classes: set num_classes of every head to '
                        'that of the data',
                        subject.is_used(field),
                    )
            if is_open_set(subject.model):
                continue
            if (lacking := category_problem(dataset, field)) is not None:
                yield Finding(field, CATEGORIES, lacking.partition(': ')[2], subject.is_used(field))
            if first is None:
                first = field, dataset
            if (problem := split_problem(first[1], dataset, (first[0], field))) is not None:
                yield Finding(field, SPLITS, problem, subject.is_used(field))


def check_labels(subject: Subject) -> Iterator[Finding]:
    """Check that labels are classes, and that every class of the training data has a sample."""
    labels_of_sample = subject.known('labels')
    heads = subject.heads
    if labels_of_sample is None or not heads:
        return
    predicted = min(number for _, number in heads)
    trained: Counter[int] = Counter()
    is_complete, names, trained_on = True, None, predicted
    for split, loaded in subject.each('dataset'):
        field = f'{split}_dataloader.dataset'
        for dataset in innermost(loaded):
            if not hasattr(dataset, 'get_data_info'):
                is_complete &= split != 'train'
                continue
            labels: Counter[int] = Counter()
            number = min(len(dataset), MOST_ENTRIES)
            for index in np.linspace(0, len(dataset) - 1, number).round().astype(int).tolist():
                labels.update(labels_of_sample(dataset.get_data_info(index)))
            classes = number_of_classes(dataset) or predicted  # whether both agree is another check
            if wrong := sorted(label for label in labels if not 0 <= label < classes):
                yield Finding(
                    field,
                    LABELS,
                    f'has the labels {shorten_list(list(map(str, wrong)))}, but the classes are 0 to '
                    f'{classes - 1}: correct the annotations, which count from 0, or the number of classes',
                    subject.is_used(field),
                )
            if split == 'train':
                trained += labels
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
