"""Multi-resolution training of image classifiers (paper, Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from resformer_mm.datasets.batches import share_num_classes
from resformer_mm.engine.objective import MultiResolutionObjective, enumerate_copies
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionClassifier(MultiResolutionObjective, ImageClassifier):
    """An image classifier trained on a list of batches, one per resolution, high to low.

    The loss is the paper's Equation 3, ``1/r sum_i [CE(y_i, t) + alpha SC(cls_i, cls_{i-1})]``. Every
    resolution learns the label, and every resolution but the largest learns to agree with the next larger
    one. The logged terms, e.g. ``loss_cls_224`` and ``loss_consistency_160``, contain the factor 1/r and add
    up to ``loss``. Evaluation is that of :class:`mmpretrain.models.ImageClassifier`, at the resolution of the
    input.

    Args:
        backbone: config of the backbone; the targets 'cls' and 'gap' need one with ``forward_pooled``.
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None disables it.
        consistency_target: what is compared: 'cls', 'gap' or 'logits', see
            :attr:`~resformer_mm.engine.objective.MultiResolutionObjective.consistency_targets`.
        one_forward: whether all resolutions of a step pass the backbone together, see
            :meth:`~resformer_mm.models.ResFormer.forward_copies`: the same losses in less time. By default
            they do if the backbone can. Training turn by turn always takes them one after the other.
        **kwargs: arguments of :class:`mmpretrain.models.ImageClassifier`.

    Raises:
        ValueError: ``one_forward`` is set, but the backbone takes one batch at a time; the consistency target
            needs tokens that the backbone does not provide; or the head and the data preprocessor have
            different numbers of classes.
    """

    def __init__(
        self,
        backbone: dict,
        *args,
        consistency: dict | None = dict(type='SmoothL1Consistency'),
        consistency_target: str = 'cls',
        one_forward: bool | None = None,
        **kwargs,
    ) -> None:
        super().__init__(backbone, *args, **kwargs)
        if one_forward and not getattr(self.backbone, 'packs_copies', False):
            raise ValueError(
                f'model.one_forward=True, but {type(self.backbone).__name__} takes its inputs one after the '
                'other: leave it out'
            )
        self.one_forward = one_forward
        self.set_consistency(consistency, consistency_target)
        if self.with_head:
            share_num_classes(self.data_preprocessor, self.head, 'model.head')

    def supervise(
        self, inputs: Tensor, data_samples: list[DataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the head at one resolution, and the features to compare, ``(B, C)``.

        Args:
            inputs: the images at this resolution, ``(B, C, R, R)``.
            data_samples: the B samples.
            index: index of the resolution.
        """
        if self.compares_tokens:
            feats, compared = self.backbone.forward_pooled(inputs, self.consistency_target)
        else:
            feats, compared = self.backbone(inputs), None
        return self._supervise_features(feats, compared, data_samples, index)

    def loss(self, inputs: Tensor | Sequence[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Return the named losses of one step, see :meth:`MultiResolutionObjective.loss`."""
        # Not decided when the model is built: wrappers of blocks come later.
        packs = self.one_forward is not False and getattr(self.backbone, 'packs_copies', False)
        if isinstance(inputs, Tensor) or len(inputs) == 1 or not packs:
            return super().loss(inputs, data_samples)
        pool = self.consistency_target if self.compares_tokens else None
        outputs = self.backbone.forward_copies(inputs, pool)
        pairs = outputs if pool else [(feats, None) for feats in outputs]
        supervised = (
            self._supervise_features(feats, compared, data_samples, index)
            for index, (feats, compared) in enumerate(pairs)
        )
        return self.combine(list(enumerate_copies(inputs)), supervised, data_samples)

    def _supervise_features(
        self, feats: tuple, compared: Tensor | None, data_samples: list[DataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the head, and what is compared, by default the class scores."""
        cls_score = self.head(self.neck(feats) if self.with_neck else feats)
        # The head computes its loss from the scores itself, so that every head and loss works.
        terms = self.head._get_loss(cls_score, [_labels_at(sample, index) for sample in data_samples])
        losses = {name.replace('loss', 'loss_cls', 1): value for name, value in terms.items()}
        return losses, cls_score if compared is None else compared


def _labels_at(sample: DataSample, index: int) -> DataSample:
    """Return the sample with the soft label of one resolution, if the resolutions were mixed separately."""
    if 'gt_scores' not in sample:
        return sample
    return DataSample().set_gt_label(sample.gt_label).set_gt_score(sample.gt_scores[index])
