"""The same small ResFormer on 64, 48 and 32 pixels, which drops 65 % of the patches of the largest copy.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_token-drop_1xb64-30e_mini.py

A step has 77 tokens per image, 1.18 times those of a training on 64 pixels alone. Measured accuracies:
docs/experiments.md.
"""

_base_ = '_base_/mini.py'

# 64 patches at 64 pixels, 36 at 48.
model = dict(backbone=dict(token_drop=dict(type='RandomTokenDrop', rate=0.65, min_tokens=50)))
