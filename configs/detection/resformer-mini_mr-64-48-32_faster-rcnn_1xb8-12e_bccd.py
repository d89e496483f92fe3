"""Blood cells with a small Faster R-CNN: two stages, anchors.

    python tools/train.py configs/detection/resformer-mini_mr-64-48-32_faster-rcnn_1xb8-12e_bccd.py

`_base_/blood-cells.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/blood-cells.py'

model = dict(
    type='resformer_mm.FasterRCNN',
    # Squares of 16 and 32 pixels on the finest map, which are platelets and red cells, to 64 and 128 on the coarsest.
    rpn_head=dict(anchor_generator=dict(scales=[2, 4])),
    roi_head=dict(
        bbox_head=dict(num_classes=_base_.num_classes),
        mask_roi_extractor=None,  # objects have boxes alone
        mask_head=None,
    ),
)
