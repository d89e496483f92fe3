"""The paper's Table 7 in shape: all resolutions in a step, or one per step or per epoch.

Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from consistency import EXPERIMENT as CONSISTENCY
from every_size import EXPERIMENT as EVERY_SIZE
from every_size import FROM_64, ON_64
from experiment import Experiment, Variant


def one_at_a_time(title: str, sampler: str) -> Variant:
    """Return the small ResFormer on one of the resolutions at a time."""
    settings = dict(train_dataloader=dict(batch_sampler=dict(type=f'resformer_mm.{sampler}')))
    return Variant(title, ON_64, settings, FROM_64)


EXPERIMENT = Experiment(
    name='strategies',
    resolutions=(16, 24, 32, 48, 64, 96, 128),
    variants={
        'joint': EVERY_SIZE.shared('plain', 'all in a step, with consistency'),
        'joint-without': CONSISTENCY.shared('none', 'all in a step'),
        'per-iteration': one_at_a_time('one per iteration', 'ResolutionBatchSampler'),
        'per-epoch': one_at_a_time('one per epoch', 'EpochResolutionBatchSampler'),
    },
)
