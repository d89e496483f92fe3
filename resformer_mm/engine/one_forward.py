"""One forward pass of the backbone for all copies of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .objective import MultiResolutionObjective, enumerate_copies
from .partial_copies import PartialCopy


class OneForwardObjective(MultiResolutionObjective):
    """An objective whose copies may pass the backbone together, for the same losses in less time.

    A task implements :meth:`supervise_features`, and calls :meth:`set_one_forward` when its model is built.
    Training turn by turn always takes one copy after the other.
    """

    one_forward: bool | None

    def set_one_forward(self, one_forward: bool | None) -> None:
        """Set whether all copies of a step pass the backbone together.

        Args:
            one_forward: the argument of the model; None for where the backbone can.

        Raises:
            ValueError: they shall, but the backbone takes one batch at a time.
        """
        if one_forward and not self.packs_copies:
            raise ValueError(
                f'model.one_forward=True, but {type(self.backbone).__name__} takes its inputs one after the '
                'other: leave it out'
            )
        self.one_forward = one_forward

    @property
    def packs_copies(self) -> bool:
        """Whether the backbone takes all copies together, see ``ResFormer.packs_copies``."""
        return getattr(self.backbone, 'packs_copies', False)

    def backbone_inputs(self, inputs: Tensor) -> Tensor:
        """Return what the backbone takes of a copy."""
        return inputs

    def features(self, inputs: Tensor) -> tuple[Any, Tensor | None]:
        """Return the features of one copy for the head, and the pooled tokens to compare, if there are any.

        Args:
            inputs: the copy.
        """
        if self.compares_tokens:
            return self.backbone.forward_pooled(self.backbone_inputs(inputs), self.consistency_target)
        return self.backbone(self.backbone_inputs(inputs)), None

    def features_of_copies(self, inputs: Sequence[Tensor]) -> list[tuple[Any, Tensor | None]]:
        """Return what :meth:`features` returns for every copy, by one pass of the backbone."""
        pool = self.consistency_target if self.compares_tokens else None
        outputs = self.backbone.forward_copies([self.backbone_inputs(one) for one in inputs], pool)
        return outputs if pool else [(feats, None) for feats in outputs]

    def supervise_features(
        self, feats: Any, pooled: Tensor | None, inputs: Tensor, data_samples: list, index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return what :meth:`supervise` returns, given what :meth:`features` returned.

        Args:
            feats: features for the head.
            pooled: pooled tokens to compare, or None.
            inputs: the copy.
            data_samples: the samples of its images with their labels.
            index: position of the copy among the copies.
        """
        raise NotImplementedError

    def supervise(self, inputs: Tensor, data_samples: list, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of one copy, and what is compared between copies."""
        return self.supervise_features(*self.features(inputs), inputs, data_samples, index)

    def loss(self, inputs: Tensor | Sequence[Tensor | PartialCopy], data_samples: list) -> dict[str, Tensor]:
        """Return the named losses of one step, see :meth:`MultiResolutionObjective.loss`."""
        # Not decided when the model is built: wrappers of blocks come later.
        packs = self.one_forward is not False and self.packs_copies
        if isinstance(inputs, Tensor) or len(inputs) == 1 or not packs:
            return super().loss(inputs, data_samples)
        copies = list(enumerate_copies(inputs))
        found = zip(copies, self.features_of_copies([one.inputs for one in copies]))
        supervised = (
            self.supervise_features(*features, one.inputs, one.samples_of(data_samples), one.index)
            for one, features in found
        )
        return self.combine(copies, supervised, data_samples)
