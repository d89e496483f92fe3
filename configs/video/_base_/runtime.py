"""Runtime of the video configs: hooks, environment, log."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmaction'

default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    logger=dict(interval=20, ignore_last=False),
    sync_buffers=dict(type='SyncBuffersHook'),
    skipped_images=dict(type='resformer_mm.SkippedImagesHook'),
    visualization=dict(type='resformer_mm.ClipVisualizationHook'),
    num_classes=dict(type='resformer_mm.CheckNumClassesHook'),
)
visualizer = dict(type='ActionVisualizer', vis_backends=_base_.vis_backends)
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
