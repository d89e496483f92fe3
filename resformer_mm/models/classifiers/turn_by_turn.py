"""Multi-resolution training that back-propagates each resolution in turn, to save memory."""

from __future__ import annotations

from torch import Tensor

from resformer_mm.engine.turn_by_turn import train_by_turns
from resformer_mm.registry import MODELS

from .multi_resolution import MultiResolutionClassifier


@MODELS.register_module()
class TurnByTurnClassifier(MultiResolutionClassifier):
    """A :class:`MultiResolutionClassifier` that frees the activations of a resolution before the next.

    The gradients are those of the joint step, since no gradient reaches a teacher; the peak memory is that
    of the largest resolution, not of the sum. For training on several processes set
    ``model_wrapper_cfg=dict(type='resformer_mm.TurnByTurnDistributedDataParallel')``.
    """

    def forward(self, inputs: Tensor | list[Tensor], data_samples=None, mode: str = 'tensor', **kwargs):
        """Forward in the modes of mmpretrain, or in mode 'turn': the losses of one resolution.

        Raises:
            RuntimeError: a joint step of several resolutions is asked for, as a plain wrapper does.
        """
        if mode == 'turn':
            return self.resolution_loss(inputs, data_samples, **kwargs)
        if mode == 'loss' and self.training and isinstance(inputs, list) and len(inputs) > 1:
            raise RuntimeError(
                'TurnByTurnClassifier was asked for all resolutions at once: on several processes set '
                "model_wrapper_cfg=dict(type='resformer_mm.TurnByTurnDistributedDataParallel'), or use "
                'MultiResolutionClassifier'
            )
        return super().forward(inputs, data_samples, mode, **kwargs)

    def train_step(self, data: dict, optim_wrapper) -> dict[str, Tensor]:
        """Run forward and backward per resolution, then one optimiser step; return the logged losses."""
        return train_by_turns(self, self, data, optim_wrapper)
