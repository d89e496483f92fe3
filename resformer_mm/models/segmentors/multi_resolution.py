"""The segmentor that is trained on several resolutions of each crop at once."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from resformer_mm.models.resolution_chain import ResolutionChain, resolution_name
from resformer_mm.registry import MODELS


@MODELS.register_module()
class MultiResolutionSegmentor(ResolutionChain, EncoderDecoder):
    """An encoder-decoder whose training step takes a list of batches, one per resolution, high to low.

    All copies show the same crop, so that their predictions can be compared pixel by pixel: every resolution
    learns the labels, and from the second on also to agree with the next larger one,
    ``1/r sum_i [L(y_i, t_i) + alpha SC(y_i, y_{i-1})]``, as the paper's Equation 3 has it for images. The
    student's logits are resized (bilinear) to the teacher's map, and no gradient reaches the teacher. The
    logged terms, e.g. ``decode.loss_ce_512`` and ``loss_consistency_384``, contain the factor 1/r and add up
    to ``loss``. Inference is that of :class:`mmseg.models.EncoderDecoder`.

    Args:
        consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency` on logits; None trains
            without.
        **kwargs: arguments of :class:`mmseg.models.EncoderDecoder`.

    Raises:
        ValueError: the consistency compares something else than logits.
    """

    def __init__(self, *args, consistency: dict | None = dict(type='KLConsistency'), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.consistency = None
        if consistency is not None:
            self.consistency = MODELS.build({'_scope_': 'resformer_mm', **consistency})
            if self.consistency.target != 'logits':
                raise ValueError(
                    f'model.consistency.target={self.consistency.target!r}: a segmentor compares its '
                    "predictions, target='logits', e.g. dict(type='KLConsistency')"
                )

    def resolution_loss(
        self,
        image: Tensor,
        data_samples: list[SegDataSample],
        index: int,
        num_resolutions: int,
        teacher: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the losses of resolution ``index`` and what it teaches the next one, detached.

        Args:
            image: the batch at this resolution, ``(B, C, H, W)``.
            data_samples: the B samples.
            index: place in the list of resolutions, 0 for the largest.
            num_resolutions: the r of the loss.
            teacher: what the next larger resolution returned; None for the largest.
        """
        size = tuple(image.shape[-2:])
        name = resolution_name(image)
        samples = [labels_at(sample, size) for sample in data_samples]
        feats = self.extract_feat(image)
        logits = self.decode_head(feats)
        terms = add_prefix(self.decode_head.loss_by_feat(logits, samples), 'decode')
        if self.with_auxiliary_head:
            terms.update(self._auxiliary_head_forward_train(feats, samples))
        losses = {
            f'{key}_{name}': value / num_resolutions if 'loss' in key else value
            for key, value in terms.items()
        }
        if self.consistency is None:
            return losses, None
        if teacher is not None:
            student = F.interpolate(logits.float(), teacher.shape[-2:], mode='bilinear', align_corners=False)
            agreement = self.consistency(_by_pixel(student), _by_pixel(teacher))
            losses[f'loss_consistency_{name}'] = agreement / num_resolutions
        return losses, logits.detach()


def labels_at(sample: SegDataSample, size: tuple[int, int]) -> SegDataSample:
    """Return a sample whose label map has another size, by nearest neighbour."""
    labels = sample.gt_sem_seg.data
    if tuple(labels.shape[-2:]) == size:
        return sample
    # Labels are whole numbers that float32 holds exactly; 'nearest-exact' picks the pixel at the centre.
    resized = F.interpolate(labels[None].float(), size, mode='nearest-exact')[0].to(labels.dtype)
    return SegDataSample(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=resized))


def _by_pixel(logits: Tensor) -> Tensor:
    """Return ``(B, K, H, W)`` as ``(B * H * W, K)``."""
    return logits.permute(0, 2, 3, 1).flatten(0, 2)
