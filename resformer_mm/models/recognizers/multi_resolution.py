"""The recognizer that is trained on several copies of each clip at once (paper, Section 3.2, on clips)."""

from __future__ import annotations

from mmaction.models import Recognizer3D
from mmaction.structures import ActionDataSample
from torch import Tensor

from resformer_mm.models.consistency_target import ConsistencyTarget
from resformer_mm.models.resolution_chain import ResolutionChain, clip_names
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionRecognizer(ResolutionChain, ConsistencyTarget, Recognizer3D):
    """A recognizer whose training step takes a list of batches, one per copy of the clips.

    The copies may differ in resolution, in number of frames and in sampling interval. The loss is that of
    :class:`MultiResolutionClassifier`: every copy learns the label, and from the second on also to agree with
    the one before, so the config lists first what sees most. The logged terms, e.g. ``loss_cls_224`` and
    ``loss_consistency_160``, or ``loss_cls_8x224`` where the numbers of frames differ, contain the factor 1/r
    and add up to ``loss``. Evaluation is that of :class:`mmaction.models.Recognizer3D`, the mean over clips
    and crops.

    Args:
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None trains without. A
            class-token or pooled target needs a backbone with ``forward_tokens``.
        **kwargs: arguments of :class:`mmaction.models.Recognizer3D`.

    Raises:
        ValueError: the consistency target needs tokens that the backbone does not give, or the head and the
            data preprocessor disagree in the number of classes.
    """

    def __init__(self, *args, consistency: dict | None = dict(type='SmoothL1Consistency'), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.set_consistency(consistency)
        if self.with_cls_head and hasattr(self.data_preprocessor, 'num_classes'):
            checked, scored = self.data_preprocessor.num_classes, self.cls_head.num_classes
            if checked not in (None, scored):
                raise ValueError(
                    f'model.cls_head.num_classes is {scored}, but that of the data preprocessor {checked}: '
                    'leave the latter out, or set both to the number of classes of the data'
                )
            self.data_preprocessor.num_classes = scored

    def resolution_loss(
        self,
        clips: Tensor,
        data_samples: list[ActionDataSample],
        index: int,
        num_resolutions: int,
        teacher: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the losses of copy ``index`` and what it teaches the next one, detached.

        Args:
            clips: the batch of this copy, ``(B, num_clips, C, T, H, W)``.
            data_samples: the B samples; several copies are told apart by their ``copy_names``.
            index: place in the list of copies, 0 for the first.
            num_resolutions: the number r of copies.
            teacher: what the copy before returned; None for the first.
        """
        names = data_samples[0].get('copy_names')
        if clips.ndim != 6 or (names is None and num_resolutions > 1):
            raise ValueError(
                'training takes copies of clips (B, num_clips, C, T, H, W) with `copy_names`, which keep '
                f'their losses apart, got {tuple(clips.shape)} {"with" if names else "without"} names: use '
                'model.data_preprocessor=dict(type="resformer_mm.MultiResolutionActionDataPreprocessor")'
            )
        name = clip_names([clips])[0] if names is None else names[index]
        samples = [sample for sample in data_samples for _ in range(clips.shape[1])]
        cls_score, target, terms = self._score_and_target(clips.flatten(0, 1), samples)
        # The head takes its accuracy with numpy, which has no bfloat16.
        terms.update(self.cls_head.loss_by_feat(cls_score.float(), samples))
        losses = {
            f'{key}_{name}': value / num_resolutions if 'loss' in key else value
            for key, value in terms.items()
        }
        agreement, lesson = self.consistency_losses(target, teacher, name, num_resolutions)
        return {**losses, **agreement}, lesson

    def predict(self, *args, **kwargs) -> list[ActionDataSample]:
        """Return the samples with scores in float32 ``(num_classes,)``, which metrics turn into numpy arrays.

        Raises:
            ValueError: the head does not average the scores of the clips and crops of a video.
        """
        samples = super().predict(*args, **kwargs)
        for sample in samples:
            if sample.pred_score.ndim != 1:
                raise ValueError(
                    f'the scores of a video are {tuple(sample.pred_score.shape)}, a row for each of its '
                    "clips and crops: set model.cls_head.average_clips to 'prob' or 'score'"
                )
            sample.set_pred_score(sample.pred_score.float())
        return samples

    def _score_and_target(
        self, clips: Tensor, samples: list[ActionDataSample]
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Return the scores, what is compared, and the losses of the neck."""
        if self.compares_tokens:
            feats, target = self.features_and_tokens(clips)
            feats = feats[0] if len(feats) == 1 else feats
        else:
            feats, target = self.backbone(clips), None
        terms = {}
        if self.with_neck:
            feats, terms = self.neck(feats, data_samples=samples)
        cls_score = self.cls_head(feats)
        if self.consistency is not None and not self.compares_tokens:
            target = cls_score
        return cls_score, target, dict(terms)
