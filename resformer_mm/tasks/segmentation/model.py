"""Multi-resolution training of segmentors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from resformer_mm.datasets.label_resizing import labels_at
from resformer_mm.engine.one_forward import OneForwardObjective
from resformer_mm.models.losses import KLConsistency
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionSegmentor(OneForwardObjective, EncoderDecoder):
    """An encoder-decoder trained on a list of batches, one per resolution, high to low.

    All copies show the same crop, so their predictions can be compared pixel by pixel. Every resolution
    learns the labels, and every resolution but the largest learns to agree with the next larger one:
    ``1/r sum_i [L(y_i, t_i) + alpha SC(y_i, y_{i-1})]``, the dense form of the paper's Equation 3. The
    student's logits are resized (bilinear) to the teacher's map, and no gradient reaches the teacher. Pixels
    that the data preprocessor added as padding are not compared. The logged terms, e.g.
    ``decode.loss_ce_512`` and ``loss_consistency_384``, contain the factor 1/r and add up to ``loss``.
    Inference is that of :class:`mmseg.models.EncoderDecoder`.

    Args:
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None disables it.
        consistency_target: what is compared at every pixel: 'logits' of the decode head, or 'featmap', the
            last feature map passed to the heads.
        one_forward: whether all resolutions of a step pass the backbone together, see
            :meth:`~resformer_mm.models.ResFormer.forward_copies`: the same losses in less time. By default
            they do if the backbone can. Training turn by turn always takes them one after the other.
        **kwargs: arguments of :class:`mmseg.models.EncoderDecoder`.

    Raises:
        ValueError: ``one_forward`` is set, but the backbone takes one batch at a time; the target is unknown;
            probabilities are to be compared, but the decode head has a single
            output; or the head overrides the loss, as heads that predict masks instead of a map of logits do.
    """

    consistency_targets = ('logits', 'featmap')

    def __init__(
        self,
        *args,
        consistency: dict | None = dict(type='KLConsistency'),
        consistency_target: str = 'logits',
        one_forward: bool | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.set_one_forward(one_forward)
        if type(self.decode_head).loss is not BaseDecodeHead.loss:
            raise ValueError(
                f'model.decode_head.type={type(self.decode_head).__name__!r} overrides the loss: training '
                "at several resolutions needs a head that predicts a map of logits, e.g. 'UPerHead'"
            )
        self.set_consistency(consistency, consistency_target)
        if isinstance(self.consistency, KLConsistency) and self.decode_head.out_channels == 1:
            raise ValueError(
                'model.consistency of type KLConsistency compares class probabilities, which are all 1 if '
                'model.decode_head.out_channels is 1: give the head one output per class, or use '
                "dict(type='L2Consistency')"
            )

    @property
    def packs_copies(self) -> bool:
        """Whether the backbone takes all copies together, and nothing else than a neck follows it."""
        return super().packs_copies and type(self).extract_feat is EncoderDecoder.extract_feat

    def features(self, inputs: Tensor) -> tuple[Any, Tensor | None]:
        """Return the maps of one copy for the heads, and no pooled tokens."""
        return self.extract_feat(inputs), None

    def features_of_copies(self, inputs: Sequence[Tensor]) -> list[tuple[Any, Tensor | None]]:
        """Return what :meth:`features` returns for every copy, by one pass of the backbone."""
        outputs = self.backbone.forward_copies(inputs)
        return [(self.neck(feats) if self.with_neck else feats, None) for feats in outputs]

    def supervise_features(
        self, feats: Any, pooled: Tensor | None, inputs: Tensor, data_samples: list[SegDataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the heads at one resolution, and the map to compare, ``(B, K, h, w)``.

        The label maps have the size of the largest crop. See :meth:`OneForwardObjective.supervise_features`.

        Raises:
            TypeError: logits are to be compared, but the decode head returns several outputs.
        """
        samples = [labels_at(sample, (inputs.shape[-2], inputs.shape[-1])) for sample in data_samples]
        logits = self.decode_head(feats)
        terms = add_prefix(self.decode_head.loss_by_feat(logits, samples), 'decode')
        if self.with_auxiliary_head:
            terms.update(self._auxiliary_head_forward_train(feats, samples))
        compared = logits if self.consistency_target == 'logits' else feats[-1]
        if self.consistency is not None and not isinstance(compared, Tensor):
            raise TypeError(
                f'model.decode_head.type={type(self.decode_head).__name__!r} gives {len(logits)} outputs in '
                'training, and it is unknown which one is the prediction: use another head, or set '
                "model.consistency=None or model.consistency_target='featmap'"
            )
        return terms, compared

    def comparable(
        self, student: Tensor, teacher: Tensor, data_samples: list[SegDataSample]
    ) -> tuple[Tensor, Tensor]:
        """Return the unpadded pixels of both maps, at the teacher's size, as rows ``(sum(h * w), K)``."""
        size = (teacher.shape[-2], teacher.shape[-1])
        student = F.interpolate(student.float(), size, mode='bilinear', align_corners=False)
        real = [_without_padding(sample, size) for sample in data_samples]
        return _by_pixel(student, real), _by_pixel(teacher, real)


def _without_padding(sample: SegDataSample, size: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows and columns of a map of the padded crop belong to the image."""
    _, right, _, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
    height, width = sample.gt_sem_seg.shape[-2:]
    return math.ceil(size[0] * (1 - bottom / height)), math.ceil(size[1] * (1 - right / width))


def _by_pixel(logits: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the top-left ``(K, h, w)`` of every ``(K, H, W)`` in a batch, as ``(sum(h * w), K)``."""
    return torch.cat([one[:, :rows, :columns].flatten(1).T for one, (rows, columns) in zip(logits, sizes)])
