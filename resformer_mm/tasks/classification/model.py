"""Multi-resolution training of image classifiers (paper, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from resformer_mm.datasets.batches import share_num_classes
from resformer_mm.engine.freezing import freeze_others
from resformer_mm.engine.one_forward import OneForwardObjective
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionClassifier(OneForwardObjective, ImageClassifier):
    """An image classifier trained on a list of batches, one per resolution, high to low.

    The loss is the paper's Equation 3, ``1/r sum_i [CE(y_i, t) + alpha SC(cls_i, cls_{i-1})]``. Every
    resolution learns the label, and every resolution but the largest learns to agree with the next larger
    one. The logged terms, e.g. ``loss_cls_224`` and ``loss_consistency_160``, contain the factor 1/r and add
    up to ``loss``. Evaluation is that of :class:`mmpretrain.models.ImageClassifier`, at the resolution of the
    input.

    Args:
        backbone: config of the backbone; the target 'cls' needs one with ``forward_pooled``.
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None disables it.
        consistency_target: what is compared: 'cls', 'gap' or 'logits', see
            :attr:`~resformer_mm.engine.objective.MultiResolutionObjective.consistency_targets`. With a
            backbone without tokens, such as a ResNet, 'gap' is the mean of its last map.
        one_forward: whether all resolutions of a step pass the backbone together, see
            :meth:`~resformer_mm.models.ResFormer.forward_copies`: the same losses in less time. By default
            they do if the backbone can. Training turn by turn always takes them one after the other.
        trained: starts of the names of the parameters that are trained, such as 'backbone.patch_embed'; all
            others are frozen. None trains everything.
        **kwargs: arguments of :class:`mmpretrain.models.ImageClassifier`.

    Raises:
        ValueError: ``one_forward`` is set, but the backbone takes one batch at a time; the consistency target
            needs tokens that the backbone does not provide; the head and the data preprocessor have
            different numbers of classes; or no parameter has a name in ``trained``.
    """

    pools_maps = True

    def __init__(
        self,
        backbone: dict,
        *args,
        consistency: dict | None = dict(type='SmoothL1Consistency'),
        consistency_target: str = 'cls',
        one_forward: bool | None = None,
        trained: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone, *args, **kwargs)
        if trained is not None:
            freeze_others(self, trained, 'model.trained')
        self.set_one_forward(one_forward)
        self.set_consistency(consistency, consistency_target)
        if self.with_head:
            share_num_classes(self.data_preprocessor, self.head, 'model.head')

    def features(self, inputs: Tensor) -> tuple[Any, Tensor | None]:
        """Return the features of one copy for the head, and what is compared, if it is pooled from them.

        Args:
            inputs: the copy.

        Raises:
            ValueError: the consistency target is 'gap', and the backbone returns neither tokens nor maps.
        """
        if not self.compares_tokens or hasattr(self.backbone, 'forward_pooled'):
            return super().features(inputs)
        feats = self.backbone(self.backbone_inputs(inputs))
        last = feats[-1]
        if last.ndim != 4:
            raise ValueError(
                "model.consistency_target='gap' needs a map (B, C, H, W), but "
                f'{type(self.backbone).__name__} returns {tuple(last.shape)}: set '
                "model.consistency_target='logits' with consistency=dict(type='KLConsistency')"
            )
        return feats, last.mean(dim=(2, 3))

    def supervise_features(
        self, feats: tuple, pooled: Tensor | None, inputs: Tensor, data_samples: list[DataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the head at one resolution, and what is compared, ``(B, C)``.

        See :meth:`OneForwardObjective.supervise_features`; without pooled tokens, scores are compared.
        """
        cls_score = self.head(self.neck(feats) if self.with_neck else feats)
        losses = self.label_losses(cls_score, inputs, data_samples, index)
        return losses, cls_score if pooled is None else pooled

    def label_losses(
        self, scores: Tensor, inputs: Tensor, data_samples: list[DataSample], index: int
    ) -> dict[str, Tensor]:
        """Return the losses of the class scores ``(B, num_classes)`` at one resolution, by name.

        Args:
            scores: what the head returns in mode 'tensor'.
            inputs: the images, ``(B, 3, H, W)``.
            data_samples: the samples with their labels.
            index: position of the resolution among the copies.
        """
        # The head computes its loss from the scores itself, so that every head and loss works.
        terms = self.head._get_loss(scores, [_labels_at(sample, index) for sample in data_samples])
        return {name.replace('loss', 'loss_cls', 1): value for name, value in terms.items()}


def _labels_at(sample: DataSample, index: int) -> DataSample:
    """Return the sample with the soft label of one resolution, if the resolutions were mixed separately."""
    if 'gt_scores' not in sample:
        return sample
    return DataSample().set_gt_label(sample.gt_label).set_gt_score(sample.gt_scores[index])
