"""The same small ResFormer on pairs: every image has a copy at 32 pixels, and one at either 64 or 48.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_pairs_1xb64-30e_mini.py

A step has 68 tokens per image, 1.05 times those of a training on 64 pixels alone. Measured accuracies:
docs/experiments.md.
"""

_base_ = '_base_/mini.py'

train_dataloader = dict(batch_sampler=dict(type='resformer_mm.ImageResolutionBatchSampler', keep=[32]))
