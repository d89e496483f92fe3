"""The same small ResFormer on 48 and 32 pixels for 65 % of the training, then on 64, 48 and 32.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_staged_1xb64-30e_mini.py

A step has 77 tokens per image on average, 1.18 times those of a training on 64 pixels alone. Measured accuracies:
docs/experiments.md.
"""

_base_ = '_base_/mini.py'

train_dataloader = dict(
    batch_sampler=dict(
        type='resformer_mm.StagedResolutionBatchSampler', stages=[[48, 32], [64, 48, 32]], ends=[0.65, 1.0]
    )
)
