"""Declarations of experiments: which models are trained, and at which sizes they are tested."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from image_data import ClassFolders, GeneratedData

FOLDER = Path(__file__).resolve().parent
UNITS = {'epochs': 'epoch', 'iterations': 'iter'}
"""How trainings are counted: name in the results and on the command line -> name in checkpoints."""


@dataclass(frozen=True)
class Variant:
    """A model of an experiment.

    Attributes:
        title: name in the table.
        config: config file, relative to the project.
        settings: what differs from the config, in training and test.
        trained_on: resolutions of the training, which the table marks.
        weights_of: name of the variant whose weights are tested; by default the variant is trained itself.
    """

    title: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[int, ...] = ()
    weights_of: str | None = None

    def config_text(self, root: Path, *lines_after: str) -> str:
        """Return the text of the config of the variant.

        Args:
            root: folder of the project.
            *lines_after: lines at the end.
        """
        lines = [f'"""{self.title}."""', '', f'_base_ = {str(root / self.config)!r}', '']
        lines += [f'{name} = {value!r}' for name, value in self.settings.items()]
        return '\n'.join([*lines, *lines_after]) + '\n'


@dataclass(frozen=True)
class Metric:
    """A compared metric.

    Attributes:
        name: that of ``tools/test.py``, without its resolution.
        factor: what makes it a percentage.
    """

    name: str
    factor: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """Length of the trainings.

    Attributes:
        length: number of epochs or iterations.
        column: 'epochs' or 'iterations'.
        fields: fields of the configs that have this number.
    """

    length: int
    column: str = 'epochs'
    fields: Sequence[str] = ('train_cfg.max_epochs', 'param_scheduler.1.end', 'param_scheduler.1.T_max')

    def checkpoint(self, number: int | str) -> str:
        """Return the name of the checkpoint after a number of epochs or iterations, or a pattern of it."""
        return f'{UNITS[self.column]}_{number}.pth'


@dataclass(frozen=True)
class Experiment:
    """A comparison of models on the same data.

    Attributes:
        name: name of the experiment and of its results.
        variants: name -> model. The first one is what the others are compared with.
        resolutions: resolutions of the test in pixels.
        thinned: resolution -> n: the test takes every n-th image, where all would take too long.
        schedule: length of a training.
        seeds: seeds of the trainings.
        metrics: column of the results -> metric. The first one is what tables show by default.
        data: the images.
        dtype: type in which models are tested; None for bfloat16 where it is fast, which the trainings of
            classifiers choose as well, and float32 elsewhere.
    """

    name: str
    variants: Mapping[str, Variant]
    resolutions: Sequence[int]
    thinned: Mapping[int, int] = field(default_factory=dict)
    schedule: Schedule = Schedule(30)
    seeds: Sequence[int] = (0, 1, 2)
    metrics: Mapping[str, Metric] = field(default_factory=lambda: {'top1': Metric('accuracy/top1')})
    data: ClassFolders | GeneratedData = ClassFolders()
    dtype: str | None = None

    @property
    def metrics_file(self) -> str:
        """Name of the CSV file of the metrics."""
        return f'{self.name}_{"_".join(self.metrics)}.csv'

    def groups(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return name of a trained variant -> variants to test with its weights."""
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(self.variants[name].weights_of or name, []).append(name)
        return groups


def experiment_names() -> list[str]:
    """Return the names of the experiments in this folder."""
    files = FOLDER.glob('*.py')
    return sorted(file.stem for file in files if '\nEXPERIMENT = ' in file.read_text(encoding='utf-8'))


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a name."""
    return importlib.import_module(name).EXPERIMENT
