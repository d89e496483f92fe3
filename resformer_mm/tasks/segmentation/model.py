"""The segmentor that is trained on several resolutions of each crop at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from resformer_mm.engine.objective import MultiResolutionObjective
from resformer_mm.models.losses import KLConsistency
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionSegmentor(MultiResolutionObjective, EncoderDecoder):
    """An encoder-decoder whose training step takes a list of batches, one per resolution, high to low.

    All copies show the same crop, so that their predictions can be compared pixel by pixel: every resolution
    learns the labels, and from the second on also to agree with the next larger one,
    ``1/r sum_i [L(y_i, t_i) + alpha SC(y_i, y_{i-1})]``, as the paper's Equation 3 has it for images. The
    student's logits are resized (bilinear) to the teacher's map, and no gradient reaches the teacher. What
    the data preprocessor padded to the size of the crop is compared no more than it has labels. The logged
    terms, e.g. ``decode.loss_ce_512`` and ``loss_consistency_384``, contain the factor 1/r and add up
    to ``loss``. Inference is that of :class:`mmseg.models.EncoderDecoder`.

    Args:
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None trains without.
        consistency_target: what is compared, pixel by pixel: 'logits' of the decode head, or 'featmap', the
            last feature map that the heads get.
        **kwargs: arguments of :class:`mmseg.models.EncoderDecoder`.

    Raises:
        ValueError: the target is unknown, or probabilities are compared where the decode head has a single
            output; or the head has a loss of its own, as those have that predict masks
            instead of a map of logits.
    """

    consistency_targets = ('logits', 'featmap')

    def __init__(
        self,
        *args,
        consistency: dict | None = dict(type='KLConsistency'),
        consistency_target: str = 'logits',
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        if type(self.decode_head).loss is not BaseDecodeHead.loss:
            raise ValueError(
                f'model.decode_head.type={type(self.decode_head).__name__!r} has a loss of its own: training '
                "on several resolutions needs a head that predicts a map of logits, e.g. 'UPerHead'"
            )
        self.set_consistency(consistency, consistency_target)
        if isinstance(self.consistency, KLConsistency) and self.decode_head.out_channels == 1:
            raise ValueError(
                'model.consistency of type KLConsistency compares probabilities of classes, which are '
                'all 1 where model.decode_head.out_channels is 1: give the head an output per class, or '
                "take dict(type='L2Consistency')"
            )

    def supervise(
        self, inputs: Tensor, data_samples: list[SegDataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the heads at one resolution, and the map that is compared ``(B, K, h, w)``.

        Args:
            inputs: the crops at this resolution, ``(B, C, H, W)``.
            data_samples: the B samples, with label maps of the size of the largest crop.
            index: place in the list of resolutions.

        Raises:
            TypeError: logits are compared, and the decode head gives several outputs.
        """
        samples = [labels_at(sample, tuple(inputs.shape[-2:])) for sample in data_samples]
        feats = self.extract_feat(inputs)
        logits = self.decode_head(feats)
        terms = add_prefix(self.decode_head.loss_by_feat(logits, samples), 'decode')
        if self.with_auxiliary_head:
            terms.update(self._auxiliary_head_forward_train(feats, samples))
        compared = logits if self.consistency_target == 'logits' else feats[-1]
        if self.consistency is not None and not isinstance(compared, Tensor):
            raise TypeError(
                f'model.decode_head.type={type(self.decode_head).__name__!r} gives {len(logits)} outputs in '
                'training, of which none is known to be the prediction: take another head, or set '
                "model.consistency=None or model.consistency_target='featmap'"
            )
        return terms, compared

    def comparable(
        self, student: Tensor, teacher: Tensor, data_samples: list[SegDataSample]
    ) -> tuple[Tensor, Tensor]:
        """Return both maps without padding, as rows of pixels of the teacher's map ``(sum(h * w), K)``."""
        size = tuple(teacher.shape[-2:])
        student = F.interpolate(student.float(), size, mode='bilinear', align_corners=False)
        real = [_without_padding(sample, size) for sample in data_samples]
        return _by_pixel(student, real), _by_pixel(teacher, real)


def labels_at(sample: SegDataSample, size: tuple[int, int]) -> SegDataSample:
    """Return a sample whose label map has another size, by nearest neighbour."""
    labels = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) == size:
        return sample
    # Labels are whole numbers that float32 holds exactly; 'nearest-exact' picks the pixel at the centre.
    resized = F.interpolate(labels[None].float(), size, mode='nearest-exact')[0].to(labels.dtype)
    return SegDataSample(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=resized))


def _without_padding(sample: SegDataSample, size: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows and columns of a map of the padded crop show the image."""
    _, right, _, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
    crop = sample.gt_sem_seg.shape[-2:]
    return tuple(math.ceil(side * (1 - pad / full)) for side, pad, full in zip(size, (bottom, right), crop))


def _by_pixel(logits: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the ``(K, h, w)`` at the top left of every ``(K, H, W)`` of a batch as ``(sum(h * w), K)``."""
    return torch.cat([one[:, :rows, :columns].flatten(1).T for one, (rows, columns) in zip(logits, sizes)])
