"""Multi-resolution training of video recognizers (paper, Section 3.2, applied to clips)."""

from __future__ import annotations

from mmaction.models import Recognizer3D
from mmaction.structures import ActionDataSample
from torch import Tensor

from resformer_mm.datasets.batches import share_num_classes
from resformer_mm.engine.objective import MultiResolutionObjective
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionRecognizer(MultiResolutionObjective, Recognizer3D):
    """A recognizer trained on a list of batches, one per copy of the clips.

    The copies may differ in resolution, number of frames and sampling interval. The loss is that of
    :class:`MultiResolutionClassifier`: every copy learns the label, and every copy but the first learns to
    agree with the previous one. The config should therefore list the copy with the most information first.
    The logged terms, e.g. ``loss_cls_224`` and ``loss_consistency_160``, or ``loss_cls_8x224`` if the numbers
    of frames differ, contain the factor 1/r and add up to ``loss``. Evaluation is that of
    :class:`mmaction.models.Recognizer3D`, the mean over clips and crops.

    Args:
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None disables it.
        consistency_target: what is compared: 'cls', 'gap' or 'logits'. The first two need a backbone with
            ``forward_pooled``; see
            :attr:`~resformer_mm.engine.objective.MultiResolutionObjective.consistency_targets`.
        **kwargs: arguments of :class:`mmaction.models.Recognizer3D`.

    Raises:
        ValueError: the consistency target needs tokens that the backbone does not provide, or the head and
            the data preprocessor have different numbers of classes.
    """

    def __init__(
        self,
        *args,
        consistency: dict | None = dict(type='SmoothL1Consistency'),
        consistency_target: str = 'cls',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_consistency(consistency, consistency_target)
        if self.with_cls_head:
            share_num_classes(self.data_preprocessor, self.cls_head, 'model.cls_head')

    def supervise(
        self, inputs: Tensor, data_samples: list[ActionDataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses for one copy, and the features to compare, ``(B * num_clips, C)``.

        Args:
            inputs: the clips of this copy, ``(B, num_clips, C, T, H, W)``.
            data_samples: the B samples.
            index: index of the copy.

        Raises:
            ValueError: the inputs do not have six dimensions.
        """
        if inputs.ndim != 6:
            raise ValueError(
                f'training needs clips (B, num_clips, C, T, H, W), got {tuple(inputs.shape)}: use '
                'model.data_preprocessor=dict(type="resformer_mm.MultiResolutionActionDataPreprocessor")'
            )
        samples = [sample for sample in data_samples for _ in range(inputs.shape[1])]
        clips = inputs.flatten(0, 1)
        if self.compares_tokens:
            feats, tokens = self.backbone.forward_pooled(clips, self.consistency_target)
            feats = feats[0] if len(feats) == 1 else feats
        else:
            feats, tokens = self.backbone(clips), None
        terms: dict[str, Tensor] = {}
        if self.with_neck:
            feats, terms = self.neck(feats, data_samples=samples)
        cls_score = self.cls_head(feats)
        # The head computes the accuracy with numpy, which does not support bfloat16.
        terms = {**terms, **self.cls_head.loss_by_feat(cls_score.float(), samples)}
        return terms, cls_score if tokens is None else tokens

    def predict(self, *args, **kwargs) -> list[ActionDataSample]:
        """Return the samples with float32 scores ``(num_classes,)``, which metrics convert to numpy arrays.

        Raises:
            ValueError: the head does not average the scores of the clips and crops of a video.
        """
        samples = super().predict(*args, **kwargs)
        for sample in samples:
            if sample.pred_score.ndim != 1:
                raise ValueError(
                    f'the scores of a video are {tuple(sample.pred_score.shape)}, one row for each of its '
                    "clips and crops: set model.cls_head.average_clips to 'prob' or 'score'"
                )
            sample.set_pred_score(sample.pred_score.float())
        return samples
