"""What the multi-resolution models of all tasks share: the chain of resolutions of one step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class ResolutionChain:
    """Sums the losses of every resolution, each taught by the next larger one; a mixin before a model.

    The model has ``resolution_loss(image, data_samples, index, num_resolutions, teacher)``, which returns the
    named losses of one resolution and what it teaches the next one (paper, Equation 3).
    """

    def loss(self, inputs: Tensor | Sequence[Tensor], data_samples: list) -> dict[str, Tensor]:
        """Return the named losses of one step.

        Args:
            inputs: batches ``(B, C, H_i, W_i)``, resolutions high to low; or one batch.
            data_samples: the B samples with their labels, shared by all resolutions.
        """
        copies = [inputs] if isinstance(inputs, Tensor) else inputs
        losses, teacher = {}, None
        for index, copy in enumerate(copies):
            terms, teacher = self.resolution_loss(copy, data_samples, index, len(copies), teacher)
            losses.update(terms)
        return losses


def resolution_name(image: Tensor) -> str:
    """Return what names of losses call the resolution of a batch: '224', or '224x320' (height x width)."""
    height, width = image.shape[-2:]
    return f'{height}' if height == width else f'{height}x{width}'


def clip_names(clips: Sequence[Tensor]) -> list[str]:
    """Return what names of losses call each copy of a batch of clips, all of them different.

    Copies with the same number of frames are called by their resolution, others '8x224' (frames x
    resolution); copies of one shape, which differ in the sampling of frames, are counted: '224', '224_2'.

    Args:
        clips: the copies, ``(..., T, H, W)``.
    """
    names = [resolution_name(clip) for clip in clips]
    if len({clip.shape[-3] for clip in clips}) > 1:
        names = [f'{clip.shape[-3]}x{name}' for clip, name in zip(clips, names)]
    counts: dict[str, int] = {}
    for index, name in enumerate(names):
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > 1:
            names[index] = f'{name}_{counts[name]}'
    return names
