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
from resformer_mm.compat.class_weight import mend_class_weight
from resformer_mm.config_types import find_type, packages_of_types, type_name
from resformer_mm.operators import MissingOperatorsError, require_operators

FOLDER = '{folder}'


@dataclass(frozen=True)
class Library:
    """An upstream library; its key is the name of its package and its scope in configs.

    Attributes:
        prepare: function to call before the package is imported.
        mend: function to call after it was imported.
        hook: settings with which its visualisation hook draws; FOLDER is replaced by the folder to draw to.
        hook_folder: attribute of the hook with the folder; None if the visualizer chooses the folder.
        visualizer: settings with which the visualizer draws to a folder.
        visualizer_types: its visualizers, and those of this package that draw in their place.
        draws_both: whether a test can draw to a window and to a folder at once.
        loader: settings of data loaders that the tools of the library add.
        forward: arguments with which the forward pass of a model in mode 'tensor' includes its head.
    """

    prepare: Callable[[], object] | None = None
    mend: Callable[[], object] | None = None
    hook: Mapping[str, object] = field(default_factory=dict)
    hook_folder: str | None = None
    visualizer: Mapping[str, object] = field(default_factory=dict)
    visualizer_types: Mapping[str, str] = field(default_factory=dict)
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
        settle: function that settles what a config of a run leaves open, as 'module:function'; it may raise
            a ValueError.
        data_check: its :class:`~resformer_mm.datasets.checks.task_check.DataCheck`, as 'module:Class'.
        preflight: module with what the checks before training have to know about the library; see
            :mod:`resformer_mm.preflight.subject`.
        hook: hook that every run of the task gets, as 'module:Class'.
        finetuning: module that prepares data for a fine-tuning; see :mod:`resformer_mm.finetuning.finding`.
        deployment: its :class:`~resformer_mm.deployment.DeployableModel`, as 'module:Class'; None if its
            models are exported like image classifiers.
    """

    model: str
    inferencer: str
    is_dense: bool = False
    settle: str | None = None
    data_check: str | None = None
    preflight: str | None = None
    hook: str | None = None
    finetuning: str | None = None
    deployment: str | None = None


LIBRARIES = {
    'mmpretrain': Library(
        hook=dict(enable=True, out_dir=FOLDER),
        hook_folder='out_dir',
        visualizer_types={'UniversalVisualizer': 'resformer_mm.ClassVisualizer'},
        loader=dict(collate_fn=dict(type='default_collate')),
    ),
    'mmseg': Library(
        prepare=partial(require_operators, 'mmseg'),
        mend=mend_class_weight,
        hook=dict(draw=True),
        visualizer=dict(save_dir=FOLDER),
        visualizer_types={'SegLocalVisualizer': 'resformer_mm.LabelMapVisualizer'},
        draws_both=False,
    ),
    'mmdet': Library(
        prepare=partial(require_operators, 'mmdet'),
        hook=dict(draw=True, test_out_dir=FOLDER),
        hook_folder='test_out_dir',
        visualizer_types={'DetLocalVisualizer': 'resformer_mm.ObjectVisualizer'},
    ),
    'mmaction': Library(
        prepare=prepare_mmaction,
        hook=dict(enable=True, out_dir=FOLDER),
        hook_folder='out_dir',
        forward=dict(stage='head'),
        visualizer_types={'ActionVisualizer': 'resformer_mm.RecognitionVisualizer'},
    ),
}

TASKS = {
    'classification': Task(
        model='mmpretrain.BaseClassifier',
        inferencer='resformer_mm.tasks.classification.inferencer:ClassificationInferencer',
        data_check='resformer_mm.tasks.classification.data_check:ClassificationCheck',
        preflight='resformer_mm.tasks.classification.preflight',
        finetuning='resformer_mm.finetuning.classification',
    ),
    'segmentation': Task(
        model='mmseg.BaseSegmentor',
        inferencer='resformer_mm.tasks.segmentation.inferencer:SegmentationInferencer',
        is_dense=True,
        settle='resformer_mm.tasks.segmentation.ignored_label:settle_ignored_label',
        data_check='resformer_mm.tasks.segmentation.data_check:SegmentationCheck',
        preflight='resformer_mm.tasks.segmentation.preflight',
        finetuning='resformer_mm.finetuning.segmentation',
        deployment='resformer_mm.tasks.segmentation.deployment:DeployableSegmentor',
    ),
    'detection': Task(
        model='mmdet.BaseDetector',
        inferencer='resformer_mm.tasks.detection.inferencer:DetectionInferencer',
        is_dense=True,
        settle='resformer_mm.tasks.detection.evaluators:check_evaluators',
        data_check='resformer_mm.tasks.detection.data_check:DetectionCheck',
        preflight='resformer_mm.tasks.detection.preflight',
        finetuning='resformer_mm.finetuning.detection',
        deployment='resformer_mm.tasks.detection.deployment:DeployableDetector',
        hook='resformer_mm.tasks.detection.mask_memory:EncodedMasksHook',
    ),
    'video': Task(
        model='mmaction.BaseRecognizer',
        inferencer='resformer_mm.tasks.video.inferencer:VideoInferencer',
        data_check='resformer_mm.tasks.video.data_check:VideoCheck',
        preflight='resformer_mm.tasks.video.preflight',
        finetuning='resformer_mm.finetuning.video',
        deployment='resformer_mm.tasks.video.deployment:DeployableRecognizer',
    ),
}


def register_task(name: str, task: Task) -> None:
    """Add a task of another package, which configs import with ``custom_imports``.

    Raises:
        ValueError: another task has this name.
    """
    if TASKS.setdefault(name, task) != task:
        raise ValueError(f'another task is called {name!r}: choose a different name')


def import_library(name: str, needed_by: str) -> None:
    """Import a library, after its ``prepare`` and before its ``mend``.

    Args:
        name: name of its package.
        needed_by: what needs it, for the message.

    Raises:
        ImportError: the library is missing, or refuses the installed version of mmcv.
        MissingOperatorsError: it needs the operators of mmcv, which are missing.
    """
    library = LIBRARIES.get(name, Library())
    try:
        if library.prepare is not None:
            library.prepare()
        importlib.import_module(name)
        if library.mend is not None:
            library.mend()
    except MissingOperatorsError as error:
        raise MissingOperatorsError(f'{needed_by}: {error}') from error
    except Exception as error:  # libraries check their versions with assertions, not ImportError
        raise ImportError(
            f'{needed_by} needs the library {name!r}, which cannot be imported ({type(error).__name__}: '
            f"{error}). Install it with `pip install 'resformer-mm[onedl]'` (maintained forks) or "
            "`pip install 'resformer-mm[openmmlab]'` (upstream), in a clone with `bash tools/install.sh`."
        ) from error


def prepare_libraries(cfg: Config) -> None:
    """Import all libraries of the table that the types of a config name, or its default scope.

    Raises:
        ImportError: see :func:`import_library`.
        MissingOperatorsError: one needs the operators of mmcv, which are missing.
    """
    scope = cfg.get('default_scope')
    packages = packages_of_types(cfg._cfg_dict) | {scope}
    for name in LIBRARIES:
        if name in packages:
            import_library(name, f'default_scope={name!r}' if name == scope else 'the config')
    if packages - {None, 'mmcv', 'mmengine', 'torch', 'torchvision', *LIBRARIES}:
        prepare_mmaction()  # any other package, this one included, may import mmaction


def library_of(model: object) -> Library:
    """Return the row of the library that the class of a model derives from, or a row of defaults."""
    return LIBRARIES.get(_package(type(model)), Library())


def drawing_type(settings: Mapping) -> str | None:
    """Return the visualizer of this package that draws in place of a library's own; None for any other."""
    kind = dict.get(settings, 'type') if isinstance(settings, dict) else None
    if kind is None:
        return None
    packages = packages_of_types({'type': kind})
    if isinstance(kind, type):
        packages = {kind.__module__.partition('.')[0]}
    types = {old: new for library in LIBRARIES.values() for old, new in library.visualizer_types.items()}
    return types.get(type_name(kind)) if packages <= LIBRARIES.keys() else None


def library_of_config(cfg: Config) -> Library:
    """Return the row of the library of a config, or a row of defaults.

    That is its ``default_scope`` if that is a library, else the library of its model.

    Raises:
        ImportError: the model cannot be imported.
        ValueError: the model is not registered.
    """
    scope = cfg.get('default_scope')
    return LIBRARIES.get(scope if scope in LIBRARIES else _package(model_class(cfg)), Library())


def scope_of(cfg: Config) -> str:
    """Return the scope in which names of a config are looked up first.

    That is its ``default_scope``; without one, the library of its model, or MMEngine for other models.

    Raises:
        ImportError: the model cannot be imported.
        ValueError: the model is not registered.
    """
    return cfg.get('default_scope') or _package(model_class(cfg)) or 'mmengine'


def _package(kind: type | Callable) -> str:
    """Return the name of the library that a class derives from; '' for other classes, and functions."""
    packages = [base.__module__.split('.')[0] for base in getattr(kind, '__mro__', ())]
    return next((package for package in packages if package in LIBRARIES), '')


def task_of(cfg: Config) -> Task:
    """Return the task of a config, by the class of its model.

    Raises:
        ImportError: the library of the model cannot be imported.
        ValueError: the model is not registered, or no task has models of its class.
    """
    kind = model_class(cfg)
    if (task := task_of_class(kind)) is not None:
        return task
    models = ', '.join(task.model for task in TASKS.values())
    raise ValueError(
        f'{cfg.filename or "the config"}: cannot infer the task from model.type={type_name(kind)!r}, which '
        f'derives from none of {models}: register it with resformer_mm.libraries.register_task'
    )


def task_of_class(kind: type | Callable) -> Task | None:
    """Return the task whose models have this class; None if no task has."""
    by_model = {task.model: task for task in TASKS.values()}
    for base in getattr(kind, '__mro__', ()):
        if (task := by_model.get(f'{base.__module__.split(".")[0]}.{base.__name__}')) is not None:
            return task
    return None


def settle_config(cfg: Config) -> None:
    """Settle what the task of a config settles; nothing changes in configs of no task of the table.

    Raises:
        ImportError: the library of the model cannot be imported.
        ValueError: settings of the config contradict each other.
    """
    task = _known_task(cfg)
    if task is not None and task.settle is not None:
        import_name(task.settle)(cfg)


def hook_of_task(cfg: Config) -> Any:
    """Return the hook that every run of the task of a config gets; None without one.

    Raises:
        ImportError: the library of the model cannot be imported.
    """
    task = _known_task(cfg)
    return None if task is None or task.hook is None else import_name(task.hook)()


def _known_task(cfg: Config) -> Task | None:
    if not isinstance(cfg.get('model'), Mapping):
        return None  # built already
    try:
        return task_of(cfg)
    except ValueError:  # said where the model is built
        return None


def model_class(cfg: Config) -> type | Callable:
    """Return the class of a config's model, or of the model inside a wrapper; a function if one builds it.

    Raises:
        ImportError: the library of the model is missing.
        ValueError: the model is not registered, or cannot be imported by the config.
    """
    prepare_libraries(cfg)
    settings = cfg.model
    while 'type' in settings.get('module', {}):  # test-time augmentation
        settings = settings['module']
    kind = dict.get(settings, 'type')  # the `get` of a ConfigDict would import it
    source = cfg.filename or 'the config'
    try:
        found = None if kind is None else find_type(kind, MODELS, cfg.get('default_scope') or 'mmengine')
    except ImportError as error:
        if isinstance(kind, str):
            raise  # its library is missing
        raise ValueError(f'{source}: model.type cannot be imported: {error}') from error
    if found is None:
        raise ValueError(f'{source}: model.type={kind!r} is not registered: check the name and default_scope')
    return found


def import_adapter(name: str, module: str, library: str) -> Any:
    """Return a registered class of this package from its module.

    Args:
        name: name of the class.
        module: module that defines it.
        library: library that the module needs.

    Raises:
        ImportError: the library is missing or cannot be imported.
    """
    import_library(library, f"'resformer_mm.{name}'")
    return getattr(importlib.import_module(module), name)


def adapters_of(manifest: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a manifest: each class it lists is imported when it is first used.

    Args:
        manifest: the namespace of the manifest, see :mod:`resformer_mm.tasks`.
    """

    def import_class(name: str) -> Any:
        for variable, modules in manifest.items():
            if variable.isupper() and isinstance(modules, dict) and name in modules:
                module = f'{manifest["__name__"]}.{modules[name]}'
                return import_adapter(name, module, manifest['LIBRARY'])
        raise AttributeError(f'module {manifest["__name__"]!r} has no attribute {name!r}')

    return import_class


def import_name(reference: str) -> Any:
    """Return the object that 'module:name' refers to."""
    module, _, name = reference.partition(':')
    return getattr(importlib.import_module(module), name)
