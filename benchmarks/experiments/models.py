"""The paper's Table 1 in shape, with convolutional networks of about the same cost.

Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from every_size import CONFIGS, FROM_64
from every_size import EXPERIMENT as EVERY_SIZE
from experiment import Experiment, Variant
from resolutions import trained_on

EXPERIMENT = Experiment(
    name='models',
    resolutions=(16, 24, 32, 48, 64, 96, 128, 192),
    thinned=EVERY_SIZE.thinned,
    variants={
        'resformer-mr': EVERY_SIZE.shared('plain', 'ResFormer on 64, 48, 32'),
        'resformer-64': EVERY_SIZE.shared('single', 'ResFormer on 64'),
        'resformer-48': trained_on(48, title='ResFormer on 48'),
        'resformer-32': trained_on(32, title='ResFormer on 32'),
        'deit-64': Variant('DeiT on 64', f'{CONFIGS}/deit-mini_64_1xb64-30e_mini.py', trained_on=(64,)),
        'resnet-mr': Variant(
            'ResNet on 64, 48, 32',
            f'{CONFIGS}/resnet-mini_mr-64-48-32_1xb64-30e_mini.py',
            trained_on=FROM_64,
        ),
        'resnet-64': Variant('ResNet on 64', f'{CONFIGS}/resnet-mini_64_1xb64-30e_mini.py', trained_on=(64,)),
        'efficientnet-mr': Variant(
            'EfficientNet on 64, 48, 32',
            f'{CONFIGS}/efficientnet-b3_mr-64-48-32_1xb64-30e_mini.py',
            trained_on=FROM_64,
        ),
        'efficientnet-64': Variant(
            'EfficientNet on 64', f'{CONFIGS}/efficientnet-b3_64_1xb64-30e_mini.py', trained_on=(64,)
        ),
    },
)
