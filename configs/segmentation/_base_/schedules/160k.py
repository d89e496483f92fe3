"""160,000 iterations; the rest as for 80,000."""

_base_ = '80k.py'

max_iters = 160000

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end={{_base_.warmup_iters}}),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin={{_base_.warmup_iters}}, end=max_iters),
]
train_cfg = dict(max_iters=max_iters)
