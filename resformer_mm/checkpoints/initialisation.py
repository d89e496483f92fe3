"""Initial weights of a backbone from a config."""

from __future__ import annotations

import logging

from mmengine.logging import print_log
from torch import nn

from resformer_mm.config_types import type_field, type_name
from resformer_mm.models.backbones.arguments import PRETRAINED
from resformer_mm.registry import WEIGHT_INITIALIZERS

from .loading import load_weights
from .reading import Weights, read_weights
from .report import Report


@WEIGHT_INITIALIZERS.register_module()
class PretrainedResFormer:
    """Initialise a ResFormer from a classification checkpoint, and log which tensors were used.

    ``backbone=dict(type='resformer_mm.ResFormer', init_cfg=dict(type='resformer_mm.PretrainedResFormer',
    checkpoint='classifier.pth'))``. Accepts checkpoints of this project and published ones of ResFormer,
    DeiT and ViT, see :func:`~resformer_mm.checkpoints.load_pretrained`.

    On a ResFormer, 'Pretrained' means this class with ``partial=True``: MMEngine's own reads the names of the
    model alone, and continues even if no tensor fits.

    Args:
        checkpoint: the file, or a URL.
        key: entry of the file that holds the weights; by default 'state_dict' or 'model'.
        allow_missing: keep the initialisation of what the file lacks, e.g. of the class token if it is from
            a detector without one.
        prefix: start of the names to take, e.g. 'backbone.'; by default, or if no name starts so, the
            ResFormer or ViT is found.
        partial: take what fits, and tell what does not.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; raised when the model is built.
    """

    def __init__(
        self,
        checkpoint: str,
        key: str | None = None,
        allow_missing: bool = False,
        prefix: str | None = None,
        partial: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.key = key
        self.allow_missing = allow_missing
        self.prefix = prefix
        self.partial = partial

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a ResFormer."""
        report = self.load_into(module)
        if report.unexplained_missing or report.unexplained_unexpected:
            print_log(report.summary(), logger='current', level=logging.WARNING)
        print_log(f'Backbone initialised from {report}', logger='current')

    def load_into(self, module: nn.Module) -> Report:
        """Load the weights into a ResFormer without a word in the log."""
        weights = read_weights(self.checkpoint, self.key)
        if self.prefix is not None:
            take_below(weights, self.prefix)
        return load_weights(module, weights, self.allow_missing or self.partial, self.partial)


def is_of_whole_file(init_cfg: dict) -> bool:
    """Whether the ``init_cfg`` of a model is MMEngine's 'Pretrained' with all names of a file."""
    return type_name(type_field(init_cfg)) in PRETRAINED and 'prefix' not in init_cfg


def take_below(weights: Weights, prefix: str) -> None:
    """Take the tensors whose names start with a prefix, without it; all of them, if none does."""
    prefix = f'{prefix.removesuffix(".")}.'
    below = {
        name.removeprefix(prefix): value for name, value in weights.state.items() if name.startswith(prefix)
    }
    if below:
        weights.state = below
    else:
        weights.notes.append(f'no name starts with {prefix!r}: all were taken')
