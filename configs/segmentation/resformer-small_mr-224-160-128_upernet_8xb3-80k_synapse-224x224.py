"""UPerNet on ResFormer-S-MR for Synapse, 8 GPUs of 3 slices each, 80,000 iterations.

    bash tools/dist_train.sh configs/segmentation/resformer-small_mr-224-160-128_upernet_8xb3-80k_synapse-224x224.py 8

No published figure. Not trained here; `_base_/synapse.py` says where the data is. `pretrained` is a classification checkpoint
of this project or a published one.
"""

_base_ = ['_base_/synapse.py', '_base_/schedules/80k.py', '_base_/runtime.py']

pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))

# 8 GPUs * 3 slices.
auto_scale_lr = dict(base_batch_size=24)
