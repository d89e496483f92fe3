"""Consistency of class predictions with those of a teacher, for images without labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from resformer_mm.registry import MODELS

from .scale_consistency import ScaleConsistency


@MODELS.register_module()
class PseudoLabelConsistency(ScaleConsistency):
    """Cross-entropy between the sharpened class probabilities of the teacher and those of the student::

        1/B sum_b [max q_b >= threshold] H(softmax(t_b / temperature), softmax(s_b)),  q = softmax(t)

    t and s are the scores of teacher and student. With temperature 0, the teacher's class is the label, as in
    FixMatch (Sohn et al., arXiv 2001.07685, Equation 4).

    Args:
        temperature: divisor of the teacher's scores; less than 1 sharpens its probabilities.
        threshold: images whose highest probability by the teacher is less do not count.
        loss_weight: factor of the loss.

    Raises:
        ValueError: the temperature is negative, or the threshold is not from 0 to 1.
    """

    compares_probabilities = True

    def __init__(self, temperature: float = 0.5, threshold: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        if temperature < 0:
            raise ValueError(f'unlabelled.temperature must not be negative, got {temperature}')
        if not 0 <= threshold <= 1:
            raise ValueError(f'unlabelled.threshold must be from 0 to 1, got {threshold}')
        self.temperature = temperature
        self.threshold = threshold

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the cross-entropy, averaged over all images, also those that do not count."""
        if self.temperature:
            target = F.softmax(teacher / self.temperature, dim=-1)
            loss = -(target * F.log_softmax(student, dim=-1)).sum(dim=-1)
        else:
            loss = F.cross_entropy(student, teacher.argmax(dim=-1), reduction='none')
        return (loss * self.counts(teacher)).mean()

    def counts(self, teacher: Tensor) -> Tensor:
        """Return 1 for the images that count and 0 for the others, ``(B,)``, by the teacher's scores."""
        return (F.softmax(teacher, dim=-1).amax(dim=-1) >= self.threshold).float()

    def extra_repr(self) -> str:
        """Return the settings."""
        return f'temperature={self.temperature}, threshold={self.threshold}, loss_weight={self.loss_weight}'
