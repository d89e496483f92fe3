"""ResFormer-B on 8 frames of 128 alone, divided attention over time and space; 8 GPUs of 8 clips each.

    bash tools/dist_train.sh configs/video/resformer-base_128_divST_8xb8-8x32x1-15e_kinetics400-rgb.py 8

No published figure. Not trained here.
`pretrained` is an ImageNet classifier of this project or a published one; the temporal parameters start at zero.
Kinetics-400 in `data/kinetics400` (docs/data/kinetics.md).
"""

_base_ = [
    '_base_/models/resformer-base.py',
    '_base_/resolutions/128.py',
    '_base_/schedules/15e.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-base_128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
