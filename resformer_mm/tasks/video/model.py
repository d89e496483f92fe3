"""Multi-resolution training of video recognizers (paper, Section 3.2, applied to clips)."""

from __future__ import annotations

from typing import Any

from mmaction.models import Recognizer3D
from mmaction.structures import ActionDataSample
from torch import Tensor

from resformer_mm.datasets.batches import share_num_classes
from resformer_mm.engine.one_forward import OneForwardObjective
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionRecognizer(OneForwardObjective, Recognizer3D):
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
        one_forward: whether all copies of a step pass the backbone together, see
            :meth:`~resformer_mm.models.ResFormer.forward_copies`: the same losses in less time. By default
            they do if the backbone can. Training turn by turn always takes them one after the other.
        **kwargs: arguments of :class:`mmaction.models.Recognizer3D`.

    Raises:
        ValueError: ``one_forward`` is set, but the backbone takes one batch at a time; the consistency target
            needs tokens that the backbone does not provide; or the head and the data preprocessor have
            different numbers of classes.
    """

    def __init__(
        self,
        *args,
        consistency: dict | None = dict(type='SmoothL1Consistency'),
        consistency_target: str = 'cls',
        one_forward: bool | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_one_forward(one_forward)
        self.set_consistency(consistency, consistency_target)
        if self.with_cls_head:
            share_num_classes(self.data_preprocessor, self.cls_head, 'model.cls_head')

    def backbone_inputs(self, inputs: Tensor) -> Tensor:
        """Return the clips ``(B * num_clips, C, T, H, W)`` of a copy.

        Raises:
            ValueError: the inputs do not have six dimensions.
        """
        if inputs.ndim != 6:
            raise ValueError(
                f'training needs clips (B, num_clips, C, T, H, W), got {tuple(inputs.shape)}: use '
                'model.data_preprocessor=dict(type="resformer_mm.MultiResolutionActionDataPreprocessor")'
            )
        return inputs.flatten(0, 1)

    def supervise_features(
        self,
        feats: Any,
        pooled: Tensor | None,
        inputs: Tensor,
        data_samples: list[ActionDataSample],
        index: int,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses for one copy, and what is compared, ``(B * num_clips, C)``.

        See :meth:`OneForwardObjective.supervise_features`; without pooled tokens, scores are compared.
        """
        samples = [sample for sample in data_samples for _ in range(inputs.shape[1])]
        if pooled is not None and len(feats) == 1:
            feats = feats[0]  # as the backbone alone would return it
        terms: dict[str, Tensor] = {}
        if self.with_neck:
            feats, terms = self.neck(feats, data_samples=samples)
        cls_score = self.cls_head(feats)
        # The head computes the accuracy with numpy, which does not support bfloat16.
        terms = {**terms, **self.cls_head.loss_by_feat(cls_score.float(), samples)}
        return terms, cls_score if pooled is None else pooled

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
