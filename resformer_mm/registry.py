"""Registries of this package, children of MMEngine's.

The scope prefix ``resformer_mm.`` in a config makes MMEngine import this module. The core (backbone, layers,
losses) is imported when a registry is first used. An adapter to an upstream library is imported only when one
of its classes is requested by name, so that segmentation does not need mmpretrain.

The manifest in the ``__init__.py`` of a task lists what it registers, see :mod:`resformer_mm.tasks`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from resformer_mm.libraries import import_adapter

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'FUNCTIONS',
    'HOOKS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'STRATEGIES',
    'TRANSFORMS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
]


class AdapterRegistry(Registry):
    """A registry that imports the module of an adapter class when the class is first requested.

    Args:
        name: name of the registry.
        adapters: class name -> (module that registers it, upstream library that the module needs).
        **kwargs: passed to :class:`mmengine.registry.Registry`.
    """

    def __init__(self, name: str, adapters: Mapping[str, tuple[str, str]], **kwargs) -> None:
        super().__init__(name, scope='resformer_mm', **kwargs)
        self.adapters = dict(adapters)

    def get(self, key: str) -> type | None:
        """Return the class registered under ``key``, importing its adapter module if necessary.

        Raises:
            ImportError: the class needs an upstream library that is missing or cannot be imported.
        """
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and name in self.adapters and name not in self.module_dict:
            self._import_adapter(name)
        return super().get(key)

    def _import_adapter(self, name: str) -> None:
        import_adapter(name, *self.adapters[name])


_tasks = importlib.import_module('resformer_mm.tasks')
MANIFESTS = [
    importlib.import_module(name)
    for name in (
        'resformer_mm.datasets',
        *(f'resformer_mm.tasks.{task.name}' for task in pkgutil.iter_modules(_tasks.__path__)),
    )
]


def _registry(variable: str, parent: Registry, locations: Sequence[str] = ()) -> AdapterRegistry:
    """Return a child of a registry of MMEngine.

    Args:
        variable: name of the registry in this module and in the manifests.
        parent: the registry of MMEngine.
        locations: modules of the core that register classes in it.
    """
    adapters = {
        name: (f'{manifest.__name__}.{module}', manifest.LIBRARY)
        for manifest in MANIFESTS
        for name, module in getattr(manifest, variable, {}).items()
    }
    return AdapterRegistry(parent.name, adapters, parent=parent, locations=list(locations))


DATASETS = _registry('DATASETS', mmengine_registry.DATASETS)
DATA_SAMPLERS = _registry(
    'DATA_SAMPLERS',
    mmengine_registry.DATA_SAMPLERS,
    [
        'resformer_mm.datasets.samplers',
        'resformer_mm.datasets.schedules',
        'resformer_mm.datasets.partly_labelled',
    ],
)
FUNCTIONS = _registry(
    'FUNCTIONS',
    mmengine_registry.FUNCTIONS,
    ['resformer_mm.datasets.collate', 'resformer_mm.cascade.confidence'],
)
HOOKS = _registry(
    'HOOKS',
    mmengine_registry.HOOKS,
    ['resformer_mm.engine', 'resformer_mm.resuming', 'resformer_mm.strategies', 'resformer_mm.tracking'],
)
LOOPS = _registry('LOOPS', mmengine_registry.LOOPS, ['resformer_mm.engine'])
METRICS = _registry('METRICS', mmengine_registry.METRICS)
MODELS = _registry('MODELS', mmengine_registry.MODELS, ['resformer_mm.models'])
OPTIM_WRAPPERS = _registry('OPTIM_WRAPPERS', mmengine_registry.OPTIM_WRAPPERS, ['resformer_mm.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = _registry(
    'OPTIM_WRAPPER_CONSTRUCTORS', mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS, ['resformer_mm.engine']
)
STRATEGIES = _registry('STRATEGIES', mmengine_registry.STRATEGIES, ['resformer_mm.strategies'])
TRANSFORMS = _registry('TRANSFORMS', mmengine_registry.TRANSFORMS)
VISUALIZERS = _registry('VISUALIZERS', mmengine_registry.VISUALIZERS)
WEIGHT_INITIALIZERS = _registry(
    'WEIGHT_INITIALIZERS', mmengine_registry.WEIGHT_INITIALIZERS, ['resformer_mm.checkpoints.initialisation']
)
