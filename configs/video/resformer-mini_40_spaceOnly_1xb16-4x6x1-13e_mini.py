"""The small recognizer on 4 frames of 40 pixels without attention over time: the frames without their order.

    python tools/train.py configs/video/resformer-mini_40_spaceOnly_1xb16-4x6x1-13e_mini.py

Measured figures: docs/experiments.md.
"""

_base_ = 'resformer-mini_40_divST_1xb16-4x6x1-13e_mini.py'

model = dict(backbone=dict(attention_type='space_only'))
