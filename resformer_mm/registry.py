"""Registries of this package, children of MMEngine's.

The scope prefix ``resformer_mm.`` in any config makes MMEngine import this module. The core (backbone,
layers, losses) is imported when a registry is first asked; an adapter to an upstream library is imported
only when one of its classes is asked for by name, so that a segmentation user never needs mmpretrain.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from resformer_mm.compat import prepare_mmaction

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'FUNCTIONS',
    'HOOKS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIM_WRAPPERS',
    'TRANSFORMS',
    'WEIGHT_INITIALIZERS',
]


class AdapterRegistry(Registry):
    """A registry that imports the module of an adapter class when the class is first asked for.

    Args:
        name: name of the registry.
        adapters: class name -> (module that registers it, upstream library that the module needs).
        **kwargs: passed to :class:`mmengine.registry.Registry`.
    """

    def __init__(self, name: str, adapters: Mapping[str, tuple[str, str]], **kwargs) -> None:
        super().__init__(name, scope='resformer_mm', **kwargs)
        self.adapters = dict(adapters)

    def get(self, key: str) -> type | None:
        """Return the class registered under ``key``, importing its adapter module if need be.

        Raises:
            ImportError: the class needs an upstream library that is missing or does not import.
        """
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and name in self.adapters and name not in self.module_dict:
            self._import_adapter(name)
        return super().get(key)

    def _import_adapter(self, name: str) -> None:
        module, library = self.adapters[name]
        try:
            if library == 'mmaction':
                prepare_mmaction()
            importlib.import_module(library)
        except Exception as error:  # libraries check their versions with assertions, not ImportError
            raise ImportError(
                f"'resformer_mm.{name}' needs the library {library!r}, which cannot be imported "
                f'({type(error).__name__}: {error}). Install it with '
                "`pip install 'resformer-mm[onedl]'` (maintained forks) or "
                "`pip install 'resformer-mm[openmmlab]'` (upstream)."
            ) from error
        importlib.import_module(module)


MODELS = AdapterRegistry(
    'model',
    parent=mmengine_registry.MODELS,
    locations=['resformer_mm.models'],
    adapters={
        'MultiResolutionClassifier': ('resformer_mm.models.classifiers', 'mmpretrain'),
        'TurnByTurnClassifier': ('resformer_mm.models.classifiers', 'mmpretrain'),
        'MultiResolutionActionDataPreprocessor': (
            'resformer_mm.models.data_preprocessors.multi_resolution_action',
            'mmaction',
        ),
        'MultiResolutionDataPreprocessor': (
            'resformer_mm.models.data_preprocessors.multi_resolution',
            'mmpretrain',
        ),
        'MultiResolutionSegDataPreprocessor': (
            'resformer_mm.models.data_preprocessors.multi_resolution_segmentation',
            'mmseg',
        ),
        'MultiResolutionSegmentor': ('resformer_mm.models.segmentors', 'mmseg'),
        'TurnByTurnSegmentor': ('resformer_mm.models.segmentors', 'mmseg'),
        'CascadeRCNN': ('resformer_mm.models.detectors', 'mmdet'),
        'FCOS': ('resformer_mm.models.detectors', 'mmdet'),
        'MaskRCNN': ('resformer_mm.models.detectors', 'mmdet'),
        'RetinaNet': ('resformer_mm.models.detectors', 'mmdet'),
        'MultiResolutionRecognizer': ('resformer_mm.models.recognizers', 'mmaction'),
        'TurnByTurnRecognizer': ('resformer_mm.models.recognizers', 'mmaction'),
    },
)
MODEL_WRAPPERS = AdapterRegistry(
    'model_wrapper',
    parent=mmengine_registry.MODEL_WRAPPERS,
    locations=['resformer_mm.engine'],
    adapters={},
)
DATASETS = AdapterRegistry(
    'dataset',
    parent=mmengine_registry.DATASETS,
    locations=['resformer_mm.datasets.samplers', 'resformer_mm.datasets.collate'],
    adapters={
        'ImageFolder': ('resformer_mm.datasets.image_folder', 'mmpretrain'),
        'ImageNet': ('resformer_mm.datasets.image_folder', 'mmpretrain'),
        'ADE20K': ('resformer_mm.datasets.segmentation', 'mmseg'),
        'COCO': ('resformer_mm.datasets.detection', 'mmdet'),
        'DetectionFolder': ('resformer_mm.datasets.detection', 'mmdet'),
        'SegmentationFolder': ('resformer_mm.datasets.segmentation', 'mmseg'),
        'VideoList': ('resformer_mm.datasets.video', 'mmaction'),
    },
)
DATA_SAMPLERS = AdapterRegistry(
    'data sampler',
    parent=mmengine_registry.DATA_SAMPLERS,
    locations=['resformer_mm.datasets.samplers', 'resformer_mm.datasets.collate'],
    adapters={},
)
TRANSFORMS = AdapterRegistry(
    'transform',
    parent=mmengine_registry.TRANSFORMS,
    locations=['resformer_mm.datasets.samplers', 'resformer_mm.datasets.collate'],
    adapters={
        'ClipDecode': ('resformer_mm.datasets.transforms.clips', 'mmaction'),
        'ClipInit': ('resformer_mm.datasets.transforms.clips', 'mmaction'),
        'LoadImage': ('resformer_mm.datasets.transforms.loading', 'mmcv'),
        'LoadSegMap': ('resformer_mm.datasets.transforms.load_seg_map', 'mmseg'),
        'MultiResolution': ('resformer_mm.datasets.transforms.multi_resolution', 'mmcv'),
        'MultiResolutionClips': ('resformer_mm.datasets.transforms.multi_resolution_clips', 'mmaction'),
        'PackClips': ('resformer_mm.datasets.transforms.clips', 'mmaction'),
        'ResizeCenterCrop': ('resformer_mm.datasets.transforms.resize_center_crop', 'mmpretrain'),
    },
)
FUNCTIONS = AdapterRegistry(
    'function',
    parent=mmengine_registry.FUNCTIONS,
    locations=[
        'resformer_mm.datasets.samplers',
        'resformer_mm.datasets.collate',
        'resformer_mm.cascade.confidence',
    ],
    adapters={},
)
HOOKS = AdapterRegistry(
    'hook',
    parent=mmengine_registry.HOOKS,
    locations=['resformer_mm.engine', 'resformer_mm.analysis.clip_visualization'],
    adapters={},
)
LOOPS = AdapterRegistry(
    'loop', parent=mmengine_registry.LOOPS, locations=['resformer_mm.engine'], adapters={}
)
METRICS = AdapterRegistry(
    'metric',
    parent=mmengine_registry.METRICS,
    locations=[],
    adapters={'CocoMetric': ('resformer_mm.evaluation.coco_metric', 'mmdet')},
)
OPTIM_WRAPPERS = AdapterRegistry(
    'optimizer_wrapper',
    parent=mmengine_registry.OPTIM_WRAPPERS,
    locations=['resformer_mm.engine'],
    adapters={},
)
WEIGHT_INITIALIZERS = AdapterRegistry(
    'weight initializer',
    parent=mmengine_registry.WEIGHT_INITIALIZERS,
    locations=['resformer_mm.checkpoints.initialisation'],
    adapters={},
)
