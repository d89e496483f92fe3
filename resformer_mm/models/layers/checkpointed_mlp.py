"""MLP with activation checkpointing of its hidden layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .block import MLP


class CheckpointedMLP(MLP):
    """An :class:`MLP` that keeps its hidden layer once, ``(B, N, D)``: backward computes the GELU again.

    A plain one keeps the hidden layer before and after the GELU, at 4 times the width the most of all that a
    block keeps. The second linear layer is not computed again: recomputation ends with what backward needs.
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
