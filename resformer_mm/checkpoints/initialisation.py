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
    checkpoint='classifier.pth'))``. Takes checkpoints of this project and published ones of ResFormer, DeiT
    and ViT, see :func:`~resformer_mm.checkpoints.load_pretrained`. MMEngine's own 'Pretrained' takes those of
    this project only, and goes on where nothing fits.

    Args:
        checkpoint: the file.
        key: entry of the file that holds the weights; by default 'state_dict' or 'model'.
        allow_missing: leave what the file lacks at its initialisation, e.g. the class token where a detector
            was trained without.

    Raises:
        CheckpointError: when the model is built: the file cannot be read, or does not fit.
    """

    def __init__(self, checkpoint: str, key: str | None = None, allow_missing: bool = False) -> None:
        self.checkpoint = checkpoint
        self.key = key
        self.allow_missing = allow_missing

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a ResFormer."""
        report = load_pretrained(module, self.checkpoint, self.key, self.allow_missing)
        print_log(f'Backbone initialised from {report}', logger='current')
