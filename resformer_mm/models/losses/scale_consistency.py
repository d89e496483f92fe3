"""Scale consistency losses between two resolutions of an image (paper, Section 3.2).

The student is the copy at the lower resolution, the teacher the copy at the next higher resolution. No
gradient reaches the teacher. All losses are computed in float32, regardless of the model's precision.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.registry import MODELS


class ScaleConsistency(nn.Module):
    """Base class of the consistency losses.

    Args:
        loss_weight: the paper's alpha.
        whiten: whether to apply a layer norm without parameters (eps 1e-6) to the teacher first.
    """

    compares_probabilities = False
    """Whether the loss accepts class scores only, not features."""

    def __init__(self, loss_weight: float = 1.0, whiten: bool = False) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.whiten = whiten

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted loss between two ``(B, C)`` tensors, a scalar."""
        student, teacher = student.float(), teacher.detach().float()
        if self.whiten:
            teacher = F.layer_norm(teacher, teacher.shape[-1:], eps=1e-6)
        return self.loss_weight * self.distance(student, teacher)

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the unweighted loss between two float32 tensors ``(B, C)``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the settings."""
        return f'loss_weight={self.loss_weight}, whiten={self.whiten}'


@MODELS.register_module()
class SmoothL1Consistency(ScaleConsistency):
    """Mean smooth L1 distance to the whitened teacher, the loss used in the paper."""

    def __init__(self, loss_weight: float = 1.0, whiten: bool = True, beta: float = 1.0) -> None:
        super().__init__(loss_weight, whiten)
        self.beta = beta

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the smooth L1 distance."""
        return F.smooth_l1_loss(student, teacher, beta=self.beta)


@MODELS.register_module()
class L2Consistency(ScaleConsistency):
    """Mean squared difference."""

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean squared difference."""
        return F.mse_loss(student, teacher)


@MODELS.register_module()
class CosineConsistency(ScaleConsistency):
    """``1 - cos``, averaged over the batch."""

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return one minus the cosine similarity."""
        return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()


@MODELS.register_module()
class KLConsistency(ScaleConsistency):
    """Kullback-Leibler divergence from the teacher's class probabilities to the student's.

    Both logits are divided by the temperature, and the loss is multiplied by its square, so that the scale
    of the gradient does not depend on it.

    Args:
        temperature: divisor of the logits, positive.
        loss_weight: the paper's alpha.

    Raises:
        ValueError: the temperature is not positive.
    """

    compares_probabilities = True

    def __init__(self, temperature: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if temperature <= 0:
            raise ValueError(f'consistency.temperature must be positive, got {temperature}')
        self.temperature = temperature

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the divergence, averaged over the batch."""
        student = F.log_softmax(student / self.temperature, dim=-1)
        teacher = F.log_softmax(teacher / self.temperature, dim=-1)
        divergence = F.kl_div(student, teacher, reduction='batchmean', log_target=True)
        return divergence * self.temperature**2
