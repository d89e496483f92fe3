"""The small recognizer on copies that differ in space and time: 4 frames of 40 and 32 pixels, and 3 of 24.

    python tools/train.py configs/video/resformer-mini_mr-4x40-4x32-3x24_divST_1xb16-13e_mini.py

All copies span the same 4 * 6 = 3 * 8 = 24 frames of the clip. With fewer than three frames the two directions around
a circle look the same. `_base_/mini.py` says where the data and the initial weights are. Measured figures:
docs/experiments.md.
"""

_base_ = '_base_/mini.py'

num_frames = [4, 4, 3]
frame_interval = [6, 6, 8]
copies = dict(
    _base_.copies, resolutions=_base_.resolutions, num_frames=num_frames, frame_interval=frame_interval
)
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, copies, _base_.pack]))
