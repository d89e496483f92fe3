"""The same small ResFormer with windows of 8 x 8 tokens in four of six blocks, for images beyond 64 pixels.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_windows_mr-64-48-32_1xb64-30e_mini.py

A map of 64 pixels is one window, so the training and its weights are those of
resformer-mini_mr-64-48-32_1xb64-30e_mini.py, whose checkpoints can be tested with this config. Above, the cost of the
four blocks grows linearly with the number of pixels. `--window-size` of tools/test.py chooses another size.
"""

_base_ = '_base_/mini.py'

# Per image side, 64 pixels have 8 tokens. Every third block attends to the whole map.
model = dict(
    backbone=dict(
        window_size=_base_.resolutions[0] // _base_.patch,
        window_block_indices=(0, 1, 3, 4),
    )
)
