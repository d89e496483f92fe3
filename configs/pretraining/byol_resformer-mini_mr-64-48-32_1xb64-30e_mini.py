"""BYOL of mmpretrain with a small ResFormer, on two views of different sizes, without labels.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/pretraining/byol_resformer-mini_mr-64-48-32_1xb64-30e_mini.py

Both views pass both networks, so each size learns to predict the other. docs/few_labels.md shows how to go on from its
checkpoints; measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

projected = 128
hidden = 512
projector = dict(
    type='NonLinearNeck',
    hid_channels=hidden,
    out_channels=projected,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    with_avg_pool=False,
    norm_cfg=dict(type='BN1d'),
)
model = dict(
    _delete_=True,
    _scope_='mmpretrain',
    type='BYOL',
    base_momentum=0.02,
    data_preprocessor=_base_.preprocessor,
    backbone=_base_.encoder,
    neck=dict(projector, in_channels=_base_.arch.embed_dims),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(projector, in_channels=projected),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
