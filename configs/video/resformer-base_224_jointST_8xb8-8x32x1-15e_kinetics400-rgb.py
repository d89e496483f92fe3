"""ResFormer-B on 8 frames of 224 alone, attention among all tokens of the clip; 8 GPUs of 8 clips each.

    bash tools/dist_train.sh configs/video/resformer-base_224_jointST_8xb8-8x32x1-15e_kinetics400-rgb.py 8

No published figure. Not trained here.
Otherwise as in `resformer-base_224_divST_8xb8-8x32x1-15e_kinetics400-rgb.py`.
"""

_base_ = 'resformer-base_224_divST_8xb8-8x32x1-15e_kinetics400-rgb.py'

model = dict(backbone=dict(attention_type='joint_space_time'))
