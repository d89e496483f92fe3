"""Runtime of the classification configs: hooks, environment, log."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmpretrain'

default_hooks = dict(
    logger=dict(interval=100),
    skipped_images=dict(type='resformer_mm.SkippedImagesHook'),
    visualization=dict(type='VisualizationHook', enable=False),
)
visualizer = dict(type='UniversalVisualizer', vis_backends=_base_.vis_backends)
