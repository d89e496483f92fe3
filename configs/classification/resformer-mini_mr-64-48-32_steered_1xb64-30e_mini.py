"""The same small ResFormer on two of 64, 48 and 32 pixels in every step, drawn by the gaps of their losses.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_steered_1xb64-30e_mini.py

Resolutions whose loss is far above the smallest one are drawn more often. The log has the frequencies as `share_64`
and so on. Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

train_dataloader = dict(batch_sampler=dict(type='resformer_mm.MultiResolutionBatchSampler', number=2))
custom_hooks = [dict(type='resformer_mm.LossGapHook')]
