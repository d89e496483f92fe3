"""Tables of the upstream libraries and of the tasks: one row each.

What differs between libraries or tasks is in these rows. The class of a model determines its task. Its
library does not: mmsegmentation, for example, also has models that predict depth.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from resformer_mm.compat import prepare_mmaction
from resformer_mm.operators import require_operators

FOLDER = '{folder}'


@dataclass(frozen=True)
class Library:
    """An upstream library; its key is the name of its package and its scope in configs.

    Attributes:
        prepare: function to call before the package is imported.
        hook: settings with which its visualisation hook draws; FOLDER is replaced by the folder to draw to.
        hook_folder: attribute of the hook with the folder; None if the visualizer chooses the folder.
        visualizer: settings with which the visualizer draws to a folder.
        draws_both: whether a test can draw to a window and to a folder at once.
        loader: settings of data loaders that the tools of the library add.
        forward: arguments with which the forward pass of a model in mode 'tensor' includes its head.
    """

    prepare: Callable[[], object] | None = None
    hook: Mapping[str, object] = field(default_factory=dict)
    hook_folder: str | None = None
    visualizer: Mapping[str, object] = field(default_factory=dict)
    draws_both: bool = True
    loader: Mapping[str, object] = field(default_factory=dict)
    forward: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        model: base class of its models, as 'package.Class'; of several, the most derived one counts.
        inferencer: its :class:`~resformer_mm.inference.base.ResolutionInferencer`, as 'module:Class'.
        is_dense: whether its annotations have positions in the image, as maps and boxes do.
    """

    model: str
    inferencer: str
    is_dense: bool = False


LIBRARIES = {
    'mmpretrain': Library(
        hook=dict(enable=True, out_dir=FOLDER),
        hook_folder='out_dir',
        loader=dict(collate_fn=dict(type='default_collate')),
    ),
    'mmseg': Library(
        prepare=partial(require_operators, 'mmseg'),
        hook=dict(draw=True),
        visualizer=dict(save_dir=FOLDER),
        draws_both=False,
    ),
    'mmdet': Library(
        prepare=partial(require_operators, 'mmdet'),
        hook=dict(draw=True, test_out_dir=FOLDER),
        hook_folder='test_out_dir',
    ),
    'mmaction': Library(
        prepare=prepare_mmaction,
        hook=dict(enable=True, out_dir=FOLDER),
        hook_folder='out_dir',
        forward=dict(stage='head'),
    ),
}

TASKS = {
    'classification': Task(
        model='mmpretrain.BaseClassifier',
        inferencer='resformer_mm.tasks.classification.inferencer:ClassificationInferencer',
    ),
    'segmentation': Task(
        model='mmseg.BaseSegmentor',
        inferencer='resformer_mm.tasks.segmentation.inferencer:SegmentationInferencer',
        is_dense=True,
    ),
    'detection': Task(
        model='mmdet.BaseDetector',
        inferencer='resformer_mm.tasks.detection.inferencer:DetectionInferencer',
        is_dense=True,
    ),
    'video': Task(
        model='mmaction.BaseRecognizer',
        inferencer='resformer_mm.tasks.video.inferencer:VideoInferencer',
    ),
}


def register_task(name: str, task: Task) -> None:
    """Add a task of another package, which configs import with ``custom_imports``.

    Raises:
        ValueError: another task has this name.
    """
    if TASKS.setdefault(name, task) != task:
        raise ValueError(f'another task is called {name!r}: choose a different name')


def prepare_library(name: str | None) -> None:
    """Call the ``prepare`` of a library, if it has one.

    Raises:
        MissingOperatorsError: it needs the operators of mmcv, which are missing.
    """
    prepare = LIBRARIES[name].prepare if name in LIBRARIES else None
    if prepare is not None:
        prepare()


def library_of(model: object) -> Library:
    """Return the row of the library that the class of a model derives from, or a row of defaults."""
    packages = [kind.__module__.split('.')[0] for kind in type(model).__mro__]
    return next((LIBRARIES[package] for package in packages if package in LIBRARIES), Library())


def task_of(cfg: Config) -> Task:
    """Return the task of a config, by the class of its model.

    The default scope must be that of the config.

    Raises:
        ImportError: the library of the model cannot be imported.
        ValueError: the model is not registered, or no task has models of its class.
    """
    kind = model_class(cfg)
    by_model = {task.model: task for task in TASKS.values()}
    for base in kind.__mro__:
        if (task := by_model.get(f'{base.__module__.split(".")[0]}.{base.__name__}')) is not None:
            return task
    raise ValueError(
        f'{cfg.filename or "the config"}: cannot infer the task from model.type={kind.__name__!r}, which '
        f'derives from none of {", ".join(by_model)}: register it with resformer_mm.libraries.register_task'
    )


def model_class(cfg: Config) -> type:
    """Return the class of a config's model, or of the model inside a wrapper.

    Raises:
        ValueError: the model is not registered.
    """
    settings = cfg.model
    while 'type' in settings.get('module', {}):  # test-time augmentation
        settings = settings['module']
    kind = settings.get('type')
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(cfg.get('default_scope')) as registry:
            found = registry.get(kind)
        if found is None:
            raise ValueError(
                f'{cfg.filename or "the config"}: model.type={kind!r} is not registered: check the name and '
                'default_scope'
            )
        return found
    return kind


def import_name(reference: str) -> Any:
    """Return the object that 'module:name' refers to."""
    module, _, name = reference.partition(':')
    return getattr(importlib.import_module(module), name)
