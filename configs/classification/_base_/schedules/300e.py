"""300 epochs of AdamW for the tiny and the small model.

lr = 5e-4 * total batch / 512 = 5e-4 * (8 GPUs * 128 images) / 512 = 1e-3, for another total batch
``--auto-scale-lr``. Linear warm-up over 5 epochs, then cosine to 1e-5, both per iteration. The warm-up starts
at a millionth of the rate: the scheduler cannot start at 0. EMA 0.99996 is a momentum of 4e-5 for MMEngine.
"""

_base_ = '../../../_base_/no_decay.py'

max_epochs = 300
warmup_epochs = 5

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), eps=1e-8),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
warmup = dict(type='LinearLR', start_factor=1e-6, by_epoch=True, begin=0, convert_to_iter_based=True)
cosine = dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(warmup, end=warmup_epochs),
    dict(cosine, begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
custom_hooks = [dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
