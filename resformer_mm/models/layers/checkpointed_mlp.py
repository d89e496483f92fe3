"""MLP with activation checkpointing of its hidden layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .block import MLP


class CheckpointedMLP(MLP):
    """An :class:`MLP` that stores its hidden layer ``(B, N, D)`` once and recomputes the GELU in backward.

    A plain MLP stores the hidden layer before and after the GELU, which is the largest part of the memory of
    a block. The second linear layer is not recomputed, because backward does not need its output.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the MLP to every token."""
        hidden = self.fc1(x)
        if not torch.is_grad_enabled():
            return self._project(hidden)
        draws = self.training and self.drop.p > 0
        return checkpoint(self._project, hidden, use_reentrant=False, preserve_rng_state=draws)

    def _project(self, hidden: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(hidden))))
