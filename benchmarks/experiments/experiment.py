"""Declarations of experiments: which models are trained, and at which sizes they are tested."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from image_data import ClassFolders, GeneratedData

FOLDER = Path(__file__).resolve().parent
UNITS = {'epochs': 'epoch', 'iterations': 'iter'}
"""How trainings are counted: name in the results and on the command line -> name in checkpoints."""
CHECKPOINT = '{checkpoint}'
"""In the settings of a variant: path of the checkpoint that its training starts from."""


class Expression(str):
    """A setting that is computed in the config, such as ``Expression('_base_.max_epochs // 2')``."""

    def __repr__(self) -> str:
        """Return the expression without quotes, for the text of the config."""
        return str(self)


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

    def scaled(self, length: int, of: Schedule) -> int:
        """Return the length of this schedule, if another one has ``length`` instead of its own."""
        return max(1, round(self.length * length / of.length))

    def checkpoint(self, number: int | str) -> str:
        """Return the name of the checkpoint after a number of epochs or iterations, or a pattern of it."""
        return f'{UNITS[self.column]}_{number}.pth'


@dataclass(frozen=True)
class Variant:
    """A model of an experiment.

    Names of other variants are those of the same experiment, or 'EXPERIMENT/VARIANT'.

    Attributes:
        title: name in the table.
        config: config file, relative to the project.
        settings: what differs from the config, in training and test.
        trained_on: resolutions of the training, which the table marks.
        weights_of: name of the variant whose weights are tested; by default the variant is trained itself.
        starts_from: name of the variant that is trained first, with the same seed; the path of its last
            checkpoint replaces ``CHECKPOINT`` in the settings.
        convert: script and arguments that write another checkpoint to start from; ``'{config}'`` and
            ``'{checkpoint}'`` are those of the variant that was trained first, ``'{out}'`` is the new file.
        schedule: length of its training, if it is not that of the experiment.
        is_tested: False if other variants start from it, and it is neither tested nor in tables.
        same_as: see :meth:`Experiment.shared`.
    """

    title: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[int, ...] = ()
    weights_of: str | None = None
    starts_from: str | None = None
    convert: tuple[str, ...] = ()
    schedule: Schedule | None = None
    is_tested: bool = True
    same_as: str | None = None

    def config_text(self, root: Path, *lines_after: str, checkpoint: Path | None = None) -> str:
        """Return the text of the config of the variant.

        Args:
            root: folder of the project.
            *lines_after: lines at the end.
            checkpoint: the one that the training starts from.
        """
        lines = [f'"""{self.title}."""', '', f'_base_ = {str(root / self.config)!r}', '']
        settings = self.settings if checkpoint is None else _filled(self.settings, str(checkpoint))
        lines += [f'{name} = {value!r}' for name, value in settings.items()]
        return '\n'.join([*lines, *lines_after]) + '\n'


def _filled(settings: Any, checkpoint: str) -> Any:
    """Return settings with a checkpoint in its place."""
    if isinstance(settings, Mapping):
        return {name: _filled(value, checkpoint) for name, value in settings.items()}
    if isinstance(settings, (list, tuple)):
        return type(settings)(_filled(value, checkpoint) for value in settings)
    return checkpoint if settings == CHECKPOINT else settings


@dataclass(frozen=True, order=True)
class VariantKey:
    """Name of a variant in all experiments: that of the experiment that trains and tests it, and its own."""

    experiment: str
    variant: str

    @property
    def owner(self) -> Experiment:
        """The experiment."""
        return _load(self.experiment)

    @property
    def declaration(self) -> Variant:
        """The variant."""
        return self.owner.variants[self.variant]

    @property
    def schedule(self) -> Schedule:
        """The length of the training of the variant."""
        return self.declaration.schedule or self.owner.schedule

    def length(self, length: int) -> int:
        """Return the length of the training, if that of the experiment is ``length``."""
        return self.schedule.scaled(length, self.owner.schedule)

    @property
    def trained(self) -> VariantKey:
        """The variant whose weights are tested."""
        return self.owner.key(self.declaration.weights_of or self.variant)

    @property
    def start(self) -> VariantKey | None:
        """The variant that is trained first, if there is one."""
        name = self.declaration.starts_from
        return None if name is None else self.owner.key(name)

    def __str__(self) -> str:
        """Return the name."""
        return f'{self.experiment}/{self.variant}'


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

    @property
    def times_file(self) -> str:
        """Name of the CSV file of the seconds."""
        return f'{self.name}_seconds.csv'

    @property
    def tested(self) -> list[str]:
        """Names of the variants in tables."""
        return [name for name, variant in self.variants.items() if variant.is_tested]

    def shared(self, name: str, title: str | None = None) -> Variant:
        """Return a variant for another experiment; it is trained and tested once, as one of this experiment.

        Args:
            name: name of the variant here.
            title: name in the table there; by default the same.
        """
        variant = self.variants[name]
        same_as = variant.same_as or f'{self.name}/{name}'
        return dataclasses.replace(variant, title=title or variant.title, same_as=same_as)

    def key(self, name: str) -> VariantKey:
        """Return the name in all experiments of a variant of this one, or of 'EXPERIMENT/VARIANT'."""
        owner, _, own = name.rpartition('/')
        if owner:
            return _load(owner).key(own)
        same_as = self.variants[own].same_as
        return self.key(same_as) if same_as else VariantKey(self.name, own)

    def groups(self, names: Sequence[str]) -> dict[VariantKey, list[VariantKey]]:
        """Return trained variant -> variants to test with its weights; starts of others come first."""
        groups: dict[VariantKey, list[VariantKey]] = {}
        for name in names:
            key = self.key(name)
            group = groups.setdefault(key.trained, [])
            if key.declaration.is_tested:
                group.append(key)
        return dict(sorted(groups.items(), key=lambda group: _depth(group[0])))

    def check(self) -> None:
        """Check that what is shared with other experiments is trained and tested as the rest.

        Raises:
            ValueError: a variant has another schedule, other images, or other tests.
        """
        for name in self.variants:
            key = self.key(name)
            self._check_owner(name, key.owner, ('schedule', 'data', 'metrics', 'dtype'))
            self._check_owner(name, key.trained.owner, ('schedule', 'data'))

    def _check_owner(self, name: str, owner: Experiment, fields: Sequence[str]) -> None:
        for label in fields:
            if getattr(self, label) != getattr(owner, label):
                raise ValueError(
                    f'{self.name}: the variant {name} belongs to {owner.name}, whose {label} differs'
                )


def _depth(key: VariantKey) -> int:
    """Return how many trainings come before that of a variant."""
    return 0 if key.start is None else 1 + _depth(key.start.trained)


def experiment_names() -> list[str]:
    """Return the names of the experiments in this folder."""
    files = FOLDER.glob('*.py')
    return sorted(file.stem for file in files if '\nEXPERIMENT = ' in file.read_text(encoding='utf-8'))


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        ValueError: its file has another name, or it shares a variant that does not fit it.
    """
    experiment = _load(name)
    if experiment.name != name:
        raise ValueError(f'the experiment in {name}.py has the name {experiment.name}: name it as its file')
    experiment.check()
    return experiment


def _load(name: str) -> Experiment:
    return importlib.import_module(name).EXPERIMENT
