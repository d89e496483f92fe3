"""ResFormer-B."""

_base_ = 'resformer-small.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.2), head=dict(in_channels=768))
