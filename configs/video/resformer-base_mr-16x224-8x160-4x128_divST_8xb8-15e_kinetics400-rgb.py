"""ResFormer-B on copies of each clip that differ in resolution and in frames; 8 GPUs of 8 clips each.

    bash tools/dist_train.sh configs/video/resformer-base_mr-16x224-8x160-4x128_divST_8xb8-15e_kinetics400-rgb.py 8

Beyond the paper: 16 frames of 224 at intervals of 16, 8 frames of 160 at intervals of 32, 4 frames of 128 at intervals
of 64. All span 16 * 16 = 8 * 32 = 4 * 64 = 256 frames of the video, and each copy learns from the one before. The
table of temporal embeddings has 16 entries, as the first copy has frames; the other copies interpolate it. Tested on
8x32x1. The copies are back-propagated in turn, since 16 frames of 224 need twice the memory of 8.
No published figure. Not trained here.
`pretrained` is an ImageNet classifier of this project or a published one; the temporal parameters start at zero.
Kinetics-400 in `data/kinetics400` (docs/data/kinetics.md).
"""

_base_ = [
    '_base_/models/resformer-base.py',
    '_base_/resolutions/mr-224-160-128.py',
    '_base_/schedules/15e.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-base_mr-224-160-128.pth'
num_frames = [16, 8, 4]
frame_interval = [16, 32, 64]
model = dict(backbone=dict(num_frames=num_frames[0], init_cfg=dict(checkpoint=pretrained)))
train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop')
copies = dict(
    _base_.copies, resolutions=_base_.resolutions, num_frames=num_frames, frame_interval=frame_interval
)
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, copies, _base_.pack]))
