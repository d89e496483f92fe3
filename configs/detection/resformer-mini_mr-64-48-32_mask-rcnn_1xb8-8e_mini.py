"""A small Mask R-CNN for five categories and two CPU cores, from the multi-resolution classifier of the quickstart.

    python tools/train.py configs/detection/resformer-mini_mr-64-48-32_mask-rcnn_1xb8-8e_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'
