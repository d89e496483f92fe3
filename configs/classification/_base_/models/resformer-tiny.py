"""ResFormer-T."""

_base_ = 'resformer-small.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
