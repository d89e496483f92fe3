"""The small recognizer on 4 frames of 40, 32 and 24 pixels at once.

    python tools/train.py configs/video/resformer-mini_mr-40-32-24_divST_1xb16-4x6x1-13e_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'
