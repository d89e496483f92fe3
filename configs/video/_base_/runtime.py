"""Runtime of the video configs: scope, log and visualisation."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmaction'

default_hooks = dict(
    runtime_info=dict(type='RuntimeInfoHook'),
    logger=dict(interval=20, ignore_last=False),
    sync_buffers=dict(type='SyncBuffersHook'),
    visualization=dict(type='resformer_mm.ClipVisualizationHook'),
)
visualizer = dict(type='ActionVisualizer', vis_backends=_base_.vis_backends)
log_processor = dict(type='LogProcessor', window_size=20, by_epoch=True)
