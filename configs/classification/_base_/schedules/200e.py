"""200 epochs of AdamW for the base model.

lr = 8e-4 * total batch / 512 = 8e-4 * (8 GPUs * 128 images) / 512 = 1.6e-3. Linear warm-up over 20 epochs, then
cosine to 1e-5, both per iteration. Gradient norm clipped at 5.
"""

_base_ = '300e.py'

max_epochs = 200
warmup_epochs = 20

optim_wrapper = dict(optimizer=dict(lr=1.6e-3), clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(_base_.warmup, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
