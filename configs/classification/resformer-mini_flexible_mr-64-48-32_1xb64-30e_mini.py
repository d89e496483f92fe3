"""A small ResFormer whose patch size is drawn for each resolution of a step; tests choose it.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_flexible_mr-64-48-32_1xb64-30e_mini.py

Its kernel of 8 x 8 pixels is resized to patches of 4, 6, 8 and 12 pixels: 256, 121, 64 and 36 tokens at 64 pixels.
A step has 216 tokens per image on average, 1.9 times those of patches of 8 pixels (116). `tools/test.py` takes
`--patch-size` and `--tokens`, `tools/analysis_tools/resolution_sweep.py` `--patch-sizes` and `--tokens`.
"""

_base_ = '_base_/mini.py'

model = dict(backbone=dict(patch_embed=dict(type='FlexiblePatchEmbed', patch_sizes=[4, 6, 8, 12])))
custom_hooks = [dict(type='resformer_mm.DrawPatchSizesHook')]
