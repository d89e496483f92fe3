"""A small UPerNet for eleven classes and two CPU cores, on crops of 128 pixels.

    python tools/train.py configs/segmentation/resformer-mini_upernet_1xb8-900_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'
