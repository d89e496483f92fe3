"""ResFormer-B-MR as in the config without `_fsdp`, with weights, gradients and optimiser states spread over the GPUs.

    bash tools/dist_train.sh configs/classification/resformer-base_mr-224-160-128_fsdp_8xb128-200e_in1k.py 8

Checkpoints are those of the other config. Not trained here.
"""

_base_ = ['resformer-base_mr-224-160-128_8xb128-200e_in1k.py', '../_base_/strategies/fsdp.py']
