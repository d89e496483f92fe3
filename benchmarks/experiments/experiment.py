"""Declarations of experiments: which models are trained, and at which sizes they are tested."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


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

    def config_text(self, root: Path) -> str:
        """Return the text of the config of the variant.

        Args:
            root: folder of the project.
        """
        lines = [f'"""{self.title}."""', '', f'_base_ = {str(root / self.config)!r}', '']
        lines += [f'{name} = {value!r}' for name, value in self.settings.items()]
        return '\n'.join(lines) + '\n'


@dataclass(frozen=True)
class Experiment:
    """A comparison of models on the same data.

    Attributes:
        name: name of the experiment and of its results.
        variants: name -> model. The first one is what the others are compared with.
        resolutions: resolutions of the test in pixels.
        epochs: length of a training.
        seeds: seeds of the trainings.
        metric: the compared metric of ``tools/test.py``, in %, without its resolution.
        data_variable: environment variable of the configs that names the folder of the training images.
        epoch_fields: fields of the configs that have the number of epochs.
    """

    name: str
    variants: Mapping[str, Variant]
    resolutions: Sequence[int]
    epochs: int = 30
    seeds: Sequence[int] = (0, 1, 2)
    metric: str = 'accuracy/top1'
    data_variable: str = 'MINI_DATA_ROOT'
    epoch_fields: Sequence[str] = (
        'train_cfg.max_epochs',
        'param_scheduler.1.end',
        'param_scheduler.1.T_max',
    )

    @property
    def column(self) -> str:
        """Name of the metric in the results."""
        return self.metric.rpartition('/')[2]

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
