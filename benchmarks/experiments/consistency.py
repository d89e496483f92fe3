"""The paper's Table 6 in shape: what is compared between resolutions, and by which loss.

Figures and their reading: docs/experiments.md.
"""

from __future__ import annotations

from every_size import EXPERIMENT as EVERY_SIZE
from every_size import FROM_64, ON_64
from experiment import Experiment, Variant


def compared(title: str, target: str, loss: str) -> Variant:
    """Return the small multi-resolution ResFormer with another target or loss of scale consistency."""
    consistency = dict(type=f'resformer_mm.{loss}', _delete_=True)
    return Variant(
        title, ON_64, dict(model=dict(consistency=consistency, consistency_target=target)), FROM_64
    )


EXPERIMENT = Experiment(
    name='consistency',
    resolutions=(16, 24, 32, 48, 64, 96, 128),
    variants={
        'cls-smooth-l1': EVERY_SIZE.shared('plain', 'class token, smooth L1'),
        'none': Variant('nothing', ON_64, dict(model=dict(consistency=None)), FROM_64),
        'cls-l2': compared('class token, L2', 'cls', 'L2Consistency'),
        'cls-cosine': compared('class token, cosine', 'cls', 'CosineConsistency'),
        'gap-smooth-l1': compared('mean of the patches, smooth L1', 'gap', 'SmoothL1Consistency'),
        'logits-kl': compared('class scores, KL', 'logits', 'KLConsistency'),
    },
)
