"""Initial weights of a backbone from a config."""

from __future__ import annotations

from mmengine.logging import print_log
from torch import nn

from resformer_mm.registry import WEIGHT_INITIALIZERS

from .loading import load_pretrained


@WEIGHT_INITIALIZERS.register_module()
class PretrainedResFormer:
    """Initialise a ResFormer from a classification checkpoint, and log which tensors were used.

    ``backbone=dict(type='resformer_mm.ResFormer', init_cfg=dict(type='resformer_mm.PretrainedResFormer',
    checkpoint='classifier.pth'))``. Accepts checkpoints of this project and published ones of ResFormer,
    DeiT and ViT, see :func:`~resformer_mm.checkpoints.load_pretrained`. MMEngine's own 'Pretrained' accepts
    only those of this project, and continues even if no tensor fits.

    Args:
        checkpoint: the file.
        key: entry of the file that holds the weights; by default 'state_dict' or 'model'.
        allow_missing: keep the initialisation of what the file lacks, e.g. of the class token if it is from
            a detector without one.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; raised when the model is built.
    """

    def __init__(self, checkpoint: str, key: str | None = None, allow_missing: bool = False) -> None:
        self.checkpoint = checkpoint
        self.key = key
        self.allow_missing = allow_missing

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a ResFormer."""
        report = load_pretrained(module, self.checkpoint, self.key, self.allow_missing)
        print_log(f'Backbone initialised from {report}', logger='current')
