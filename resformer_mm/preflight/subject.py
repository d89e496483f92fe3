"""The parts of a training run, built when a check first needs them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR, LOOPS, MODELS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from resformer_mm.config_types import find_type, packages_of_types, type_field, type_name
from resformer_mm.datasets.checks.configured import innermost_configs
from resformer_mm.engine.classes import class_heads
from resformer_mm.libraries import LIBRARIES, task_of

# The hook that checks the same during the run; its `ignore` counts here, too.
CLASS_HOOK = 'CheckNumClassesHook'
OTHER_HEADS = ('rpn_head', 'semantic_head')
SPLITS = ('train', 'val', 'test')
NUM_SAMPLES = 8
SECONDS = 3.0
MOST_IN_BATCH = 4


class BuildError(Exception):
    """A part of the run cannot be built or read.

    Args:
        field: its config field.
        error: the reason.
    """

    def __init__(self, field: str, error: BaseException) -> None:
        super().__init__(field, error)
        self.field, self.error = field, error

    @property
    def reason(self) -> str:
        """The type of the error, and the last line that says something."""
        lines = [line.strip() for line in str(self.error).splitlines() if line.strip()]
        return f'{type(self.error).__name__}: {lines[-1] if lines else ""}'


class Subject:
    """A training run that is not started.

    Data loaders read small batches in at most one worker process; nothing else differs from the run.

    Args:
        cfg: config of the run, in whose scope names are looked up; it is not changed.
        world_size: number of processes that will train.

    Attributes:
        errors: what could not be built so far.
    """

    def __init__(self, cfg: Config, world_size: int = 1) -> None:
        self.cfg = cfg
        self.world_size = world_size
        self.errors: list[BuildError] = []
        self._loaders: dict[str, DataLoader | BuildError] = {}
        self._samples: dict[str, list | BuildError] = {}
        self._evaluators: dict[str, Evaluator | BuildError] = {}

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits with data; 'test' only if its data are not those of 'val'."""
        found = [split for split in SPLITS if self.cfg.get(f'{split}_dataloader') is not None]
        if {'val', 'test'} <= set(found) and _dataset(self.cfg, 'val') == _dataset(self.cfg, 'test'):
            found.remove('test')
        return tuple(found)

    def is_used(self, field: str) -> bool:
        """Whether the training uses a field; what the test alone uses does not stop it."""
        return not field.startswith('test')

    def leaves_out(self, safeguard: str) -> bool:
        """Whether ``default_hooks`` has None for a safeguard that every run gets."""
        settings = self.cfg.get('default_hooks') or {}
        return safeguard in settings and settings[safeguard] is None

    @cached_property
    def adapter(self) -> ModuleType | None:
        """What only the library of the task knows; None for a task without such a module."""
        try:
            name = task_of(self.cfg).preflight
        except ValueError:
            return None
        return import_module(name) if name else None

    def known(self, name: str) -> Any:
        """Return a function of the adapter, or None if it does not have it."""
        return getattr(self.adapter, name, None)

    @cached_property
    def _built_model(self) -> nn.Module | BuildError:
        settings = deepcopy(self.cfg.model)
        if self.cfg.get('data_preprocessor') is not None:
            settings.setdefault('data_preprocessor', self.cfg.data_preprocessor)
        return self._attempt('model', lambda: MODELS.build(settings))

    @property
    def model(self) -> nn.Module:
        """The model, on the CPU, with random weights.

        Raises:
            BuildError: it cannot be built.
        """
        return _unwrapped(self._built_model)

    def _attempt(self, field: str, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except Exception as error:  # what users bring fails in any way
            self.errors.append(BuildError(field, error))
            return self.errors[-1]

    def advice(self, error: BuildError) -> str:
        """Return what else can be done about data that a data set of a library cannot read, '' if nothing."""
        own = self.known('OWN_DATASETS') or {}
        if isinstance(error.error, ImportError):
            return ''
        loader, _, rest = error.field.partition('.')
        if not loader.endswith('_dataloader') or rest not in ('', 'dataset'):
            return ''
        for config in innermost_configs((self.cfg.get(loader) or {}).get('dataset')):
            kind = type_field(config)
            if packages_of_types({'type': kind}) <= LIBRARIES.keys() and type_name(kind) in own:
                return (
                    f'. {type_name(kind)} reads files as they are: type={own[type_name(kind)]!r} repairs '
                    'what is certain, and tools/check_data.py names the rest'
                )
        return ''

    def each(self, part: str, splits: Sequence[str] | None = None) -> Iterator[tuple[str, Any]]:
        """Yield the splits of which a part can be built, with this part.

        Args:
            part: method of this class, 'loader', 'dataset', 'samples' or 'evaluator'.
            splits: the splits to look at; None takes all.
        """
        for split in self.splits if splits is None else splits:
            with contextlib.suppress(BuildError):
                yield split, getattr(self, part)(split)

    @property
    def data_preprocessor(self) -> nn.Module:
        """The data preprocessor of the model.

        Raises:
            BuildError: the model cannot be built.
        """
        preprocessor = self.model.data_preprocessor
        assert isinstance(preprocessor, nn.Module)  # so are those of all models of MMEngine
        return preprocessor

    @cached_property
    def heads(self) -> list[tuple[str, int]]:
        """Name and number of classes of the heads that predict the classes of the data.

        Raises:
            BuildError: the model cannot be built.
        """
        named = [hook.get('ignore') for _, hook in self.hooks() if type_name(type_field(hook)) == CLASS_HOOK]
        return list(class_heads(self.model, next(filter(None, named), OTHER_HEADS)))

    def loader(self, split: str) -> DataLoader:
        """Return the data loader of a split, with a small batch size.

        Raises:
            BuildError: it cannot be built.
        """
        if split not in self._loaders:
            field = f'{split}_dataloader'
            self._loaders[split] = self._attempt(field, lambda: _loader(self.cfg.get(field)))
        return _unwrapped(self._loaders[split])

    def dataset(self, split: str) -> Any:
        """Return the data set of a split, inside any wrappers.

        Raises:
            BuildError: it cannot be built.
        """
        return self.loader(split).dataset

    def samples(self, split: str) -> list:
        """Return the first samples of a split, as its pipeline gives them, spread over the data set.

        Raises:
            BuildError: one cannot be read.
        """
        if split not in self._samples:
            dataset = self.dataset(split)
            self._samples[split] = self._attempt(f'{split}_dataloader.dataset', lambda: _read(dataset))
        return _unwrapped(self._samples[split])

    def first_samples(self, split: str, number: int) -> list:
        """Return the first samples of a split in its order, as its pipeline gives them.

        Raises:
            BuildError: one cannot be read.
        """
        dataset = self.dataset(split)
        read = self._attempt(f'{split}_dataloader.dataset', lambda: [dataset[i] for i in range(number)])
        return _unwrapped(read)

    def evaluator(self, split: str) -> Evaluator:
        """Return the evaluator of a split, with the classes of its data set, if that can be built.

        Raises:
            BuildError: it cannot be built, or refuses the data set.
        """
        if split not in self._evaluators:
            field, meta = f'{split}_evaluator', None
            with contextlib.suppress(BuildError):
                meta = getattr(self.dataset(split), 'metainfo', None)
            settings = deepcopy(self.cfg[field])
            self._evaluators[split] = self._attempt(field, lambda: _evaluator(settings, meta))
        return _unwrapped(self._evaluators[split])

    @cached_property
    def batches_per_epoch(self) -> int:
        """Number of training batches of one process in an epoch.

        Raises:
            BuildError: the data loader cannot be built.
        """
        loader = self.loader('train')
        settings = self.cfg.train_dataloader
        if settings.get('batch_size') is None:
            return len(loader)
        if settings.get('batch_sampler') is not None:
            number, drop = self.samples_per_process, bool(settings.batch_sampler.get('drop_last'))
        else:
            number, drop = self.samples_per_process, bool(settings.get('drop_last'))
        return number // settings.batch_size if drop else -(-number // settings.batch_size)

    @cached_property
    def samples_per_process(self) -> int:
        """Number of training samples of one process in an epoch.

        Raises:
            BuildError: the data loader cannot be built.
        """
        loader = self.loader('train')
        sampler = loader.sampler
        inner = getattr(loader.batch_sampler, 'sampler', None)
        number = len(inner if inner is not None else sampler)  # type: ignore[arg-type]
        return -(-number // self.world_size)

    @cached_property
    def is_by_epoch(self) -> bool | None:
        """Whether the training loop counts epochs; None for a loop that is not known."""
        settings = self.cfg.get('train_cfg') or {}
        kind = self.loop_class('train')
        if kind is None:
            return settings.get('by_epoch', True)
        if issubclass(kind, EpochBasedTrainLoop):
            return True
        return False if issubclass(kind, IterBasedTrainLoop) else None

    def loop_class(self, split: str) -> type | None:
        """Return the class of the loop of a split; None if the config does not name one."""
        kind = type_field(self.cfg.get(f'{split}_cfg'))
        return None if kind is None else find_type(kind, LOOPS)

    def items(self, field: str) -> Iterator[tuple[str, Mapping]]:
        """Yield path and content of the entries of a field that is one config or a list of them."""
        value = self.cfg.get(field)
        if isinstance(value, Mapping):
            yield field, value
        for index, entry in enumerate(value if isinstance(value, (list, tuple)) else ()):
            if isinstance(entry, Mapping):
                yield f'{field}.{index}', entry

    def hooks(self) -> Iterator[tuple[str, Mapping]]:
        """Yield path and config of every hook."""
        for name, hook in (self.cfg.get('default_hooks') or {}).items():
            if isinstance(hook, Mapping):
                yield f'default_hooks.{name}', hook
        yield from self.items('custom_hooks')


def _dataset(cfg: Config, split: str) -> Any:
    return cfg._cfg_dict[f'{split}_dataloader'].to_dict().get('dataset')


def _unwrapped(value: Any) -> Any:
    if isinstance(value, BuildError):
        raise value
    return value


def _loader(settings: ConfigDict | None) -> DataLoader:
    if settings is None:
        raise ValueError('it is not set, so there are no data to train on')
    settings = deepcopy(settings)
    if settings.get('batch_size') is not None:
        size = min(settings.batch_size, MOST_IN_BATCH)
        sampler = settings.get('batch_sampler') or {}
        if isinstance(parts := sampler.get('batch_sizes'), (list, tuple)):  # of images at a resolution
            sampler['batch_sizes'] = [-(-number * size // settings.batch_size) for number in parts]
        settings.batch_size = size
    return Runner.build_dataloader(settings, seed=0)


def _read(dataset: Any) -> list:
    number = len(dataset)
    if not number:
        raise ValueError('it has no samples: check its files and its filter')
    indices: Sequence[int] = sorted({round(x) for x in torch.linspace(0, number - 1, NUM_SAMPLES).tolist()})
    end = time.monotonic() + SECONDS
    samples = []
    for index in indices:
        samples.append(dataset[index])
        if time.monotonic() > end and len(samples) > 1:
            break
    return samples


def _evaluator(settings: Any, meta: dict | None) -> Evaluator:
    if isinstance(settings, Mapping) and 'metrics' in settings:
        evaluator = EVALUATOR.build({'type': 'Evaluator', **settings})
    else:
        evaluator = Evaluator(settings)
    if meta is not None:
        evaluator.dataset_meta = meta  # as the loop does when it is built
    return evaluator
