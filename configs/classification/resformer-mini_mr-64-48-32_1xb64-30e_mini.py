"""A small ResFormer on 64, 48 and 32 pixels at once, for ten classes and two CPU cores.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-64-48-32_1xb64-30e_mini.py

Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'
