"""ResFormer-B-MR on clips with one backward pass per resolution: the same gradients in less memory.

    bash tools/dist_train.sh configs/video/resformer-base_mr-224-160-128_divST-turn-by-turn_8xb8-8x32x1-15e_kinetics400-rgb.py 8

Otherwise as in `resformer-base_mr-224-160-128_divST_8xb8-8x32x1-15e_kinetics400-rgb.py`, with its published figures.
"""

_base_ = 'resformer-base_mr-224-160-128_divST_8xb8-8x32x1-15e_kinetics400-rgb.py'

train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop')
