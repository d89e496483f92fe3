"""Heads of detectors that expect other strides than those of merged maps."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from resformer_mm.datasets.checks.report import Finding
from resformer_mm.libraries import TASKS, model_class, task_of_class

from .subject import Subject

KIND = 'strides of merged maps'


def check_merged_strides(subject: Subject) -> Iterator[Finding]:
    """Compare the strides of a detector with those of its maps behind a token merger.

    Detectors of this package refuse others when they are built; those of mmdet would misplace every box.
    """
    if task_of_class(model_class(subject.cfg)) is not TASKS['detection']:
        return
    strides = import_module('resformer_mm.tasks.detection.strides')  # needs mmdet
    try:
        strides.check_strides(subject.model)
    except ValueError as error:
        yield Finding('model', KIND, str(error))
