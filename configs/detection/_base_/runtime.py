"""Runtime of the detection configs: hooks, environment, log."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmdet'

default_hooks = dict(
    logger=dict(interval=50),
    visualization=dict(type='DetVisualizationHook'),
    num_classes=dict(type='NumClassCheckHook'),
    # A loss that is no number stops the run before another step is made with what it left behind.
    invalid_loss=dict(type='resformer_mm.InvalidLossHook'),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=_base_.vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
