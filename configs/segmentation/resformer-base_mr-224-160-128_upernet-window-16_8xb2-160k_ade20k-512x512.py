"""UPerNet on ResFormer-B-MR with windows of 16 x 16 tokens in all blocks but four, for large images.

    bash tools/dist_train.sh configs/segmentation/resformer-base_mr-224-160-128_upernet-window-16_8xb2-160k_ade20k-512x512.py 8

Blocks 3, 6, 9 and 12 attend over the whole map; the time of the others is proportional to the number of tokens. A class
token would belong to no window: that of the classifier is left out. No published figure. Not trained here; time and
memory at 1024 x 2048 pixels: docs/experiments.md.
"""

_base_ = 'resformer-base_mr-224-160-128_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(with_cls_token=False, window_size=16, window_block_indices=(0, 1, 3, 4, 6, 7, 9, 10))
)
