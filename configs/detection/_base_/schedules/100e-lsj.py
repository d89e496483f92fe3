"""100 epochs of 64 images a step, as ViTDet trains with large-scale jitter.

100 epochs * 118,000 images / 64 images a step = 184,375 iterations; 250 of warm-up, a tenth of the rate after 8/9 and
again after 26/27 of them. The rate is for 8 GPUs * 8 images; for another total batch ``--auto-scale-lr``.
"""

_base_ = 'adamw.py'

base_batch_size = 64
max_iters = 100 * 118000 // base_batch_size

optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type='MultiStepLR',
        milestones=[round(max_iters * 8 / 9), round(max_iters * 26 / 27)],
        gamma=0.1,
        by_epoch=False,
        begin=0,
        end=max_iters,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
auto_scale_lr = dict(enable=False, base_batch_size=base_batch_size)
