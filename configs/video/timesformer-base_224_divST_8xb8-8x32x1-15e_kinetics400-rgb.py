"""TimeSformer-B that can change its resolution: learned positions, resized, and no local ones; 8 GPUs of 8 clips each.

    bash tools/dist_train.sh configs/video/timesformer-base_224_divST_8xb8-8x32x1-15e_kinetics400-rgb.py 8

The baseline of the paper. Published top-1 at 96/128/160/224/288: 26.28/61.94/70.60/75.54/75.45. 121,566,352 parameters,
as many as mmaction2's TimeSformer, which computes the same at 224 (tests/test_models/test_timesformer_parity.py) and
works at 224 only. Not trained here. `pretrained` is DeiT-B as published, or a ViT-B of the same names.
Kinetics-400 in `data/kinetics400` (docs/data/kinetics.md).
"""

_base_ = [
    '_base_/models/resformer-base.py',
    '_base_/resolutions/224.py',
    '_base_/schedules/15e.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/deit_base_patch16_224.pth'
model = dict(
    backbone=dict(
        global_position=dict(type='LearnedPositionEmbedding', grid_size=14),
        local_position=None,
        init_cfg=dict(checkpoint=pretrained),
    )
)
