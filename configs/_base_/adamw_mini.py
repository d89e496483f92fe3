"""AdamW 1e-3 for the small models, no weight decay on norms and biases either, gradient norm clipped at 5."""

_base_ = 'no_decay.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
