"""UPerNet on ResFormer-B: 119.8 M parameters."""

_base_ = 'upernet_resformer-small.py'

width = 768
model = dict(
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=[width] * 4),
    auxiliary_head=dict(in_channels=width),
)
