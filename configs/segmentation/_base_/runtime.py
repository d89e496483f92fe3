"""Runtime of the segmentation configs: scope, log and visualisation, checkpoints by iterations."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmseg'

default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=8000),
    visualization=dict(type='SegVisualizationHook'),
)
env_cfg = dict(cudnn_benchmark=True)
visualizer = dict(type='SegLocalVisualizer', vis_backends=_base_.vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
