"""Mixup and CutMix for batches at several resolutions (paper, Section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmpretrain.models.utils.batch_augments import CutMix
from torch import Tensor


class MultiResolutionMix:
    """Mixup or CutMix of a batch with its reverse, with random values shared by the resolutions or not.

    One draw chooses the method, lambda and, for CutMix, a box in the image at the largest resolution. The box
    is scaled to the other resolutions. Lambda is exact for the largest resolution: with CutMix it is the
    fraction of its area outside the box.

    Args:
        mixup_alpha: parameter of mixup's Beta distribution; 0 disables mixup.
        cutmix_alpha: parameter of CutMix's Beta distribution; 0 disables CutMix.
        prob: probability that a batch is mixed at all.
        switch_prob: probability of CutMix if both are enabled.
        shared: whether all resolutions share one draw; otherwise each is mixed separately.

    Raises:
        ValueError: an argument is out of range, or both are disabled.
    """

    def __init__(
        self,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        shared: bool = True,
    ) -> None:
        if min(mixup_alpha, cutmix_alpha) < 0 or max(mixup_alpha, cutmix_alpha) == 0:
            raise ValueError(
                f'mix: mixup_alpha={mixup_alpha} and cutmix_alpha={cutmix_alpha} must not be negative, and '
                'at least one must be positive; data_preprocessor.mix=None disables mixing'
            )
        if not (0 <= prob <= 1 and 0 <= switch_prob <= 1):
            raise ValueError(f'mix: prob={prob} and switch_prob={switch_prob} must be in [0, 1]')
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.prob = prob
        self.switch_prob = switch_prob
        self.shared = shared

    def __call__(
        self, copies: list[Tensor], scores: Tensor, rows: Sequence[tuple[int, ...] | None] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mix the copies of a batch.

        Args:
            copies: batches ``(B_i, C, H_i, W_i)``, largest resolution first.
            scores: one-hot or soft labels ``(B, num_classes)``, common to all copies.
            rows: for each copy, the positions of its images in the batch of B; None for all.

        Returns:
            The mixed batches and the mixed labels ``(B, num_classes)``: one tensor if the draw is shared,
            else one per batch.

        Raises:
            ValueError: a copy has an image without the one that it is mixed with.
        """
        rows = rows or [None] * len(copies)
        for own in rows:
            _check_pairs(own, len(scores))
        if self.shared:
            return self._mix(copies, scores)
        all_images, all_labels = [], []
        for images, own in zip(copies, rows):
            chosen = slice(None) if own is None else torch.tensor(own, device=scores.device)
            (mixed,), (labels,) = self._mix([images], scores[chosen])
            all_images.append(mixed)
            all_labels.append(scores.clone())
            all_labels[-1][chosen] = labels
        return all_images, all_labels

    def _mix(self, copies: list[Tensor], scores: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        if np.random.rand() >= self.prob:
            return list(copies), [scores]
        use_cutmix = self.mixup_alpha == 0 or (self.cutmix_alpha > 0 and np.random.rand() < self.switch_prob)
        if use_cutmix:
            mixed, lam = self._cutmix(copies)
        else:
            lam = np.random.beta(self.mixup_alpha, self.mixup_alpha)
            mixed = [images.lerp(images.flip(0), 1 - lam) for images in copies]
        return mixed, [scores.lerp(scores.flip(0), 1 - lam)]

    def _cutmix(self, copies: list[Tensor]) -> tuple[list[Tensor], float]:
        lam = np.random.beta(self.cutmix_alpha, self.cutmix_alpha)
        height, width = copies[0].shape[-2:]
        box, lam = CutMix(float(self.cutmix_alpha)).cutmix_bbox_and_lam((height, width), lam)
        top, bottom, left, right = (int(edge) for edge in box)
        mixed = []
        for images in copies:
            rows = _scale(top, bottom, images.shape[-2] / height)
            columns = _scale(left, right, images.shape[-1] / width)
            pasted = images.clone()
            pasted[..., rows, columns] = images.flip(0)[..., rows, columns]
            mixed.append(pasted)
        return mixed, float(lam)


def _scale(start: int, end: int, ratio: float) -> slice:
    return slice(round(start * ratio), round(end * ratio))


def _check_pairs(rows: Sequence[int] | None, number: int) -> None:
    """Check that some of a number of images are mixed as all of them are: the first with the last, and so on.

    Raises:
        ValueError: they are not.
    """
    if rows is not None and any(one + other != number - 1 for one, other in zip(rows, reversed(rows))):
        raise ValueError(
            f'data_preprocessor.mix mixes image i of {number} with image {number - 1} - i, but a resolution '
            f'has the images {list(rows)} alone: let `draw_copies` of train_dataloader.batch_sampler give '
            'both of a pair the same resolutions, or set data_preprocessor.mix=None'
        )
