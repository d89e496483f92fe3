"""The classifier that is trained on several resolutions of each image at once (paper, Section 3.2)."""

from __future__ import annotations

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from resformer_mm.models.consistency_target import ConsistencyTarget
from resformer_mm.models.resolution_chain import ResolutionChain, resolution_name
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionClassifier(ResolutionChain, ConsistencyTarget, ImageClassifier):
    """An image classifier whose training step takes a list of batches, one per resolution, high to low.

    The loss is the paper's Equation 3, ``1/r sum_i [CE(y_i, t) + alpha SC(cls_i, cls_{i-1})]``: every
    resolution learns the label, and from the second on also to agree with the next larger one. The logged
    terms, e.g. ``loss_cls_224`` and ``loss_consistency_160``, contain the factor 1/r and add up to ``loss``.
    Evaluation is that of :class:`mmpretrain.models.ImageClassifier`, at the resolution of the input.

    Args:
        backbone: config of the backbone; a class-token or pooled target needs one with ``forward_tokens``.
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None trains without.
        **kwargs: arguments of :class:`mmpretrain.models.ImageClassifier`.

    Raises:
        ValueError: the consistency target needs tokens that the backbone does not give.
    """

    def __init__(
        self,
        backbone: dict,
        *args,
        consistency: dict | None = dict(type='SmoothL1Consistency'),
        **kwargs,
    ) -> None:
        super().__init__(backbone, *args, **kwargs)
        self.set_consistency(consistency)

    def resolution_loss(
        self,
        image: Tensor,
        data_samples: list[DataSample],
        index: int,
        num_resolutions: int,
        teacher: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the losses of resolution ``index`` and what it teaches the next one, detached.

        Args:
            image: the batch at this resolution, ``(B, C, R, R)``.
            data_samples: the B samples.
            index: place in the list of resolutions, 0 for the largest.
            num_resolutions: the r of the loss.
            teacher: what the next larger resolution returned; None for the largest.
        """
        cls_score, target = self._score_and_target(image)
        name = resolution_name(image)
        samples = [_labels_at(sample, index) for sample in data_samples]
        # The head's own split of scoring and loss, so that every classification head and loss works.
        terms = self.head._get_loss(cls_score, samples)
        losses = {}
        for key, value in terms.items():
            if 'loss' in key:
                losses[f'{key.replace("loss", "loss_cls", 1)}_{name}'] = value / num_resolutions
            else:
                losses[f'{key}_{name}'] = value
        agreement, lesson = self.consistency_losses(target, teacher, name, num_resolutions)
        return {**losses, **agreement}, lesson

    def _score_and_target(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.compares_tokens:
            cls_score = self.head(self.extract_feat(image))
            return cls_score, None if self.consistency is None else cls_score
        feats, target = self.features_and_tokens(image)
        if self.with_neck:
            feats = self.neck(feats)
        return self.head(feats), target


def _labels_at(sample: DataSample, index: int) -> DataSample:
    """Return the sample with the soft label of one resolution, if each was mixed separately."""
    if 'gt_scores' not in sample:
        return sample
    return DataSample().set_gt_label(sample.gt_label).set_gt_score(sample.gt_scores[index])
