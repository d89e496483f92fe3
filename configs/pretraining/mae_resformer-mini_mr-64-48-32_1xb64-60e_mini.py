"""A masked autoencoder with a small ResFormer, at two sizes per step, without labels.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/pretraining/mae_resformer-mini_mr-64-48-32_1xb64-60e_mini.py

Three quarters of the patches are masked. docs/few_labels.md shows how to go on from its checkpoints; measured accuracies:
docs/experiments.md.
"""

_base_ = '_base_/mini.py'

max_epochs = 60

model = dict(
    _delete_=True,
    _scope_='mmpretrain',
    type='resformer_mm.MultiResolutionMAE',
    data_preprocessor=_base_.preprocessor,
    backbone=dict(_base_.encoder, type='resformer_mm.MaskedResFormer', mask_ratio=0.75),
    neck=dict(
        type='resformer_mm.AnySizeMAEDecoder',
        patch_size=_base_.patch,
        embed_dim=_base_.arch.embed_dims,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    head=dict(
        type='resformer_mm.AnySizeMAEHead',
        norm_pix=True,
        patch_size=_base_.patch,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
# Crops and flips alone: a pixel that is predicted has no other colour than its image.
transforms = _base_.views[:2]
copies = dict(_base_.copies, transforms=transforms)
train_dataloader = dict(dataset=dict(pipeline=[_base_.open_image, copies, _base_.pack]))
param_scheduler = [dict(_base_.warmup, end=100), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(max_epochs=max_epochs)
