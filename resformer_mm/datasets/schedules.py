"""Schedules of resolutions that cost less than all of them in every step.

Tokens, and therefore time and memory, grow with the square of the resolution, so that most of a
multi-resolution step is its largest copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.logging import MessageHub
from torch.utils.data import Sampler

from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.registry import DATA_SAMPLERS

from .samplers import NAME, ResolutionBatchSampler, check_kept


@DATA_SAMPLERS.register_module()
class ImageResolutionBatchSampler(ResolutionBatchSampler):
    """Draw one resolution for every image, besides those that all images have; the same on all ranks.

    A batch has images at all resolutions, in proportion to the weights, as in NaViT (Dehghani et al., 2023).
    With ``keep``, every image has copies to compare: with ``keep=[32]`` and the resolutions 64, 48 and 32,
    one half of the images has copies at 64 and 32 and the other half at 48 and 32.

    The numbers of images in a batch are the expected ones, up to one pair. (The first and the last image, the
    second and the last but one, and so on, have the same resolutions, because mixup and CutMix mix them.)
    So steps take equally long, and all processes wait for each other as little as with a fixed list.

    Args:
        sampler: see :class:`ResolutionBatchSampler`.
        batch_size: see :class:`ResolutionBatchSampler`.
        keep: resolutions that every image has besides the drawn one.
        **kwargs: see :class:`ResolutionBatchSampler`, but for ``batch_sizes``, which the weights replace.

    Raises:
        ValueError: see :class:`ResolutionBatchSampler`; or ``keep`` leaves nothing to draw from.
    """

    def __init__(self, sampler: Sampler, batch_size: int, keep: Sequence[int] = (), **kwargs) -> None:
        if kwargs.get('batch_sizes') is not None:
            raise ValueError(
                f'{NAME}.batch_sizes: ImageResolutionBatchSampler draws the numbers of images at each '
                'resolution by weights: set weights instead'
            )
        self._requested = keep
        super().__init__(sampler, batch_size, **kwargs)

    def set_weights(self, weights: Sequence[float] | Mapping[str, float] | None) -> None:
        """Set the weights of the following passes; see the base class."""
        super().set_weights(weights)
        self.keep = check_kept(self._requested, self.resolutions)
        shares = np.ones(len(self.resolutions)) if self.probabilities is None else self.probabilities.copy()
        shares[[resolution in self.keep for resolution in self.resolutions]] = 0
        if not shares.any():
            raise ValueError(
                f'{NAME}.keep = {self.keep} leaves no resolution with a positive weight to draw from '
                f'{self.resolutions}'
            )
        self._free = np.flatnonzero(shares)
        self._cumulated = shares[self._free].cumsum() / shares.sum()

    def draw_copies(
        self, rng: np.random.Generator, epoch: int, batch: int, length: int
    ) -> Sequence[tuple[int, ...]]:
        """Return the resolutions of the copies of every image of a batch."""
        pairs = (length + 1) // 2
        # Systematic sampling: pair i takes the resolution at (i + u) / pairs of the summed shares.
        places = (np.arange(pairs) + rng.random()) / pairs
        found = np.searchsorted(self._cumulated[:-1], places, side='right')
        drawn = self._free[rng.permutation(found)]
        copies = [tuple(sorted((*self.keep, self.resolutions[one]), reverse=True)) for one in drawn]
        return copies[:pairs] + copies[: length - pairs][::-1]

    def draw(
        self, rng: np.random.Generator, epoch: int, batch: int
    ) -> int | Sequence[int] | Mapping[int, int]:
        """Return the resolutions that a batch may have; :meth:`draw_copies` draws for each image."""
        return self.resolutions


@DATA_SAMPLERS.register_module()
class StagedResolutionBatchSampler(ResolutionBatchSampler):
    """Train in stages with resolutions of their own, e.g. from small to large; the same on all ranks.

    A batch has copies at all resolutions of its stage. With a probability ``mix``, it has those of another
    stage instead, so that what is not trained yet, or no longer, is not forgotten.

    Args:
        sampler: see :class:`ResolutionBatchSampler`.
        batch_size: see :class:`ResolutionBatchSampler`.
        stages: resolutions of each stage, by default one resolution each, from the smallest to the largest.
        ends: share of the training at whose end each stage ends, increasing, the last one 1; by default all
            stages are equally long.
        mix: probability of a batch of another stage, each equally often.
        max_epochs: number of passes over the data in the training; by default that of the training loop, if
            it counts epochs.
        **kwargs: see :class:`ResolutionBatchSampler`, but for ``weights``, which the stages replace.

    Raises:
        ValueError: see :class:`ResolutionBatchSampler`; the stages, their ends or the probability are
            malformed; or, with the first batch, the number of epochs is not known or too small.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        stages: Sequence[Sequence[int]] | None = None,
        ends: Sequence[float] | None = None,
        mix: float = 0.0,
        max_epochs: int | None = None,
        **kwargs,
    ) -> None:
        if kwargs.get('weights') is not None:
            raise ValueError(
                f'{NAME}.weights: StagedResolutionBatchSampler takes all resolutions of a stage: set stages '
                'and ends instead'
            )
        super().__init__(sampler, batch_size, **kwargs)
        self.stages = self._checked_stages(stages)
        self.ends = _checked_ends(ends, len(self.stages))
        if not 0 <= mix < 1 or (mix and len(self.stages) == 1):
            raise ValueError(
                f'{NAME}.mix = {mix!r} must be in [0, 1), and 0 with a single stage: it is the probability '
                'of a batch of another stage'
            )
        self.mix = mix
        if max_epochs is not None and (isinstance(max_epochs, bool) or max_epochs < 1):
            raise ValueError(f'{NAME}.max_epochs = {max_epochs!r} must be a positive integer')
        self.max_epochs = max_epochs

    def _checked_stages(self, stages: Sequence[Sequence[int]] | None) -> list[list[int]]:
        if stages is None:
            return [[resolution] for resolution in reversed(self.resolutions)]
        if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
            raise ValueError(f'{NAME}.stages = {stages!r} must be a list of lists, e.g. [[32], [64, 48, 32]]')
        checked = [check_resolutions(one, f'{NAME}.stages[{number}]') for number, one in enumerate(stages)]
        for number, sizes in enumerate(checked):
            if wrong := [size for size in sizes if size not in self.resolutions]:
                raise ValueError(
                    f'{NAME}.stages[{number}] contains {wrong[0]}, which is not among {self.resolutions}'
                )
        return checked

    def set_weights(self, weights: Sequence[float] | Mapping[str, float] | None) -> None:
        """Refuse weights, which stages do not have.

        Raises:
            ValueError: the weights are not None.
        """
        if weights is not None:
            raise ValueError(f'{NAME}: stages have no weights that could be set during training')
        super().set_weights(None)

    def draw(
        self, rng: np.random.Generator, epoch: int, batch: int
    ) -> int | Sequence[int] | Mapping[int, int]:
        """Return the resolutions of the stage of a batch, or with the probability ``mix`` of another."""
        progress = (epoch + batch / len(self)) / self._length(epoch)
        stage = int(np.searchsorted(self.ends, progress, side='right'))
        if self.mix and rng.random() < self.mix:
            others = [number for number in range(len(self.stages)) if number != stage]
            stage = others[rng.integers(len(others))]
        return self.stages[stage]

    def _length(self, epoch: int) -> int:
        """Return the number of epochs of the training, in one of which a batch is drawn."""
        length = self.max_epochs
        hub = MessageHub.get_current_instance()
        if length is None and 'max_epochs' in hub.runtime_info:
            length = hub.get_info('max_epochs')
        if length is None or epoch >= length:
            known = 'not known' if length is None else f'{length}, and this is epoch {epoch + 1}'
            raise ValueError(
                f'{NAME}.max_epochs: the length of the training in epochs is {known}. Set it to the number '
                'of passes over the data; with a loop that counts iterations, rounded up'
            )
        return length


def _checked_ends(ends: Sequence[float] | None, number: int) -> np.ndarray:
    """Return the shares of the training at which a number of stages end."""
    if ends is None:
        return np.arange(1, number + 1) / number
    is_list = isinstance(ends, Sequence) and not isinstance(ends, str)
    values = np.asarray(ends, dtype=float) if is_list else np.empty(0)
    if values.shape != (number,) or not (np.diff(values, prepend=0) > 0).all() or values[-1] != 1:
        raise ValueError(
            f'{NAME}.ends = {ends!r} must be {number} increasing positive numbers, one for each stage, of '
            'which the last is 1, the end of the training'
        )
    return values
