"""The same small ResFormer on 64, 48 and 32 pixels, of which 22 of the 64 images of a step have a copy at 64.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_few-large_1xb64-30e_mini.py

A step has 76 tokens per image, 1.17 times those of a training on 64 pixels alone, instead of 119 (1.83 times).
Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

batch_sampler = dict(
    type='resformer_mm.MultiResolutionBatchSampler', number=len(_base_.resolutions), batch_sizes=[22, 64, 64]
)
train_dataloader = dict(batch_sampler=batch_sampler)
