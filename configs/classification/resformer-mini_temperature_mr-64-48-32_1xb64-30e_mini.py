"""The same small ResFormer with a learned temperature of the attention by the logarithm of the number of tokens.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_temperature_mr-64-48-32_1xb64-30e_mini.py

Each head learns from 48 and 32 pixels how much the number of tokens matters, and continues the rule above 64. A model
trained without can be tested with a fixed temperature, which leaves its trained resolutions unchanged:
`--cfg-options model.backbone.attention_scale="dict(type='LogTokensScale', tokens=65)"` of tools/test.py.
"""

_base_ = '_base_/mini.py'

# 8 x 8 tokens of 64 pixels, and the class token.
tokens = (_base_.resolutions[0] // _base_.patch) ** 2 + 1
model = dict(backbone=dict(attention_scale=dict(type='LearnedLogTokensScale', tokens=tokens)))
