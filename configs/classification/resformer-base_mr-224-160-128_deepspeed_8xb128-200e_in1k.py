"""ResFormer-B-MR as in the config without `_deepspeed`, with DeepSpeed in bfloat16 and without averaged weights.

    pip install deepspeed
    bash tools/dist_train.sh configs/classification/resformer-base_mr-224-160-128_deepspeed_8xb128-200e_in1k.py 8

Checkpoints are those of the other config. Not trained here.
"""

_base_ = ['resformer-base_mr-224-160-128_8xb128-200e_in1k.py', '../_base_/strategies/deepspeed.py']

optim_wrapper = dict(type='DeepSpeedOptimWrapper', clip_grad=None)  # gradients are clipped by the strategy
custom_hooks = []
