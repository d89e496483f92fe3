"""What the small models of all tasks share: the size of the backbone, AdamW 1e-3, warm-up and cosine.

No weight decay on norms and biases either; gradient norm clipped at 5.
"""

_base_ = 'no_decay.py'

arch = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
patch = 8

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
# The parts of `param_scheduler`. The warm-up gets its `end` in iterations, the cosine `end` and `T_max` in epochs.
warmup = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0)
cosine = dict(type='CosineAnnealingLR', by_epoch=True, begin=0, convert_to_iter_based=True)
