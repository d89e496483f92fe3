"""Runtime of the classification configs: scope, log and visualisation."""

_base_ = '../../_base_/runtime.py'

default_scope = 'mmpretrain'

default_hooks = dict(logger=dict(interval=100), visualization=dict(type='VisualizationHook', enable=False))
visualizer = dict(type='UniversalVisualizer', vis_backends=_base_.vis_backends)
