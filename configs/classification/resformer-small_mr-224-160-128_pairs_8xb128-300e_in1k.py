"""ResFormer-S on 8 GPUs at a lower price: every image has a copy at 128 pixels, and one at either 224 or 160.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-224-160-128_pairs_8xb128-300e_in1k.py 8

An image has 214 tokens in a step, 1.09 times those of a training on 224 pixels alone. With all three resolutions, it
has 363 (1.84 times). Small models of ten classes are compared in docs/experiments.md. Not trained here.
Learning rate, warm-up and epochs: `_base_/schedules/300e.py`. ImageNet-1k in `data/imagenet` (docs/data/imagenet.md).
"""

_base_ = 'resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

train_dataloader = dict(batch_sampler=dict(type='resformer_mm.ImageResolutionBatchSampler', keep=[128]))
