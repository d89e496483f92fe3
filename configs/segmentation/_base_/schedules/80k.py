"""80,000 iterations of 16 crops: AdamW 6e-5, 1500 iterations of linear warm-up, then linear decay to 0.

The rate is that of the DeiT baselines for 8 GPUs * 2 images; for another total batch ``--auto-scale-lr``. The
warm-up starts at a millionth of the rate: the scheduler cannot start at 0.
"""

_base_ = '../../../_base_/no_decay.py'

max_iters = 80000
warmup_iters = 1500

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
