"""The multi-resolution objective of all tasks (paper, Equation 3).

A copy is what a model sees of every image of a batch: the image at one resolution, or a clip at one
resolution and number of frames. Each copy is supervised, and each but the first also learns to agree with the
one before, its teacher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from resformer_mm.models.losses import ScaleConsistency
from resformer_mm.registry import MODELS
from resformer_mm.text import size_text


class Copy(NamedTuple):
    """One copy of a batch.

    Attributes:
        inputs: images ``(B, C, H, W)`` or clips ``(B, num_clips, C, T, H, W)``.
        index: place in the chain, 0 for the first, which has no teacher.
        number: how many copies there are, the r of Equation 3.
        name: what the losses of this copy are called by, e.g. '224'.
    """

    inputs: Tensor
    index: int
    number: int
    name: str


def enumerate_copies(inputs: Tensor | Sequence[Tensor]) -> Iterator[Copy]:
    """Yield the copies of a batch under different names.

    An image is named by its resolution, '224' or '224x320' (height x width). Copies of clips that differ in
    their number of frames are named '8x224' (frames x resolution). Copies of one shape, which differ in the
    sampling of frames, are counted: '224', '224_2'.
    """
    copies = [inputs] if isinstance(inputs, Tensor) else inputs
    names = [size_text(copy.shape[-2:]) for copy in copies]
    if copies[0].ndim == 6 and len({copy.shape[-3] for copy in copies}) > 1:
        names = [f'{copy.shape[-3]}x{name}' for copy, name in zip(copies, names)]
    seen: Counter[str] = Counter()
    for index, (copy, name) in enumerate(zip(copies, names)):
        seen[name] += 1
        yield Copy(copy, index, len(copies), name if seen[name] == 1 else f'{name}_{seen[name]}')


class MultiResolutionObjective:
    """``1/r sum_i [L(y_i, t) + alpha SC(z_i, z_{i-1})]`` over the copies of a batch; a mixin before a model.

    L is the supervised loss of the task, SC a :class:`~resformer_mm.models.losses.ScaleConsistency` with its
    weight alpha, and z what is compared. No gradient reaches a teacher. The logged terms, e.g.
    ``loss_cls_224`` and ``loss_consistency_160``, contain the factor 1/r and add up to ``loss``.

    A task implements :meth:`supervise`, and calls :meth:`set_consistency` when its model is built.
    """

    consistency: ScaleConsistency | None
    consistency_target: str

    consistency_targets: tuple[str, ...] = ('cls', 'gap', 'logits')
    """What may be compared: 'cls', the class token after the final norm; 'gap', the mean of the patch tokens
    after the final norm; 'logits', the class scores."""

    def supervise(
        self, inputs: Tensor, data_samples: list, index: int
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the losses of one copy against the labels, by name, and what is compared between copies.

        Args:
            inputs: the copy.
            data_samples: the B samples with their labels, shared by all copies.
            index: place of the copy in the chain.
        """
        raise NotImplementedError

    def comparable(self, student: Tensor, teacher: Tensor, data_samples: list) -> tuple[Tensor, Tensor]:
        """Return student and teacher in one shape, as the consistency loss takes them."""
        return student, teacher

    def loss(self, inputs: Tensor | Sequence[Tensor], data_samples: list) -> dict[str, Tensor]:
        """Return the named losses of one step.

        Args:
            inputs: the copies of the batch, the one that sees most first; or a single copy.
            data_samples: the B samples with their labels.
        """
        losses: dict[str, Tensor] = {}
        teacher = None
        for copy in enumerate_copies(inputs):
            terms, teacher = self.copy_loss(copy, data_samples, teacher)
            losses.update(terms)
        return losses

    def copy_loss(
        self, copy: Copy, data_samples: list, teacher: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the named terms of one copy, and the teacher of the next one.

        Args:
            copy: the copy.
            data_samples: the B samples with their labels.
            teacher: what the copy before returned; None for the first.
        """
        terms, student = self.supervise(copy.inputs, data_samples, copy.index)
        losses = {
            f'{name}_{copy.name}': value / copy.number if 'loss' in name else value
            for name, value in terms.items()
        }
        if self.consistency is None:
            return losses, None
        if teacher is not None:
            agreement = self.consistency(*self.comparable(student, teacher, data_samples))
            losses[f'loss_consistency_{copy.name}'] = agreement / copy.number
        return losses, student.detach()

    def forward(
        self, inputs: Tensor | Copy, data_samples: list | None = None, mode: str = 'tensor', **kwargs
    ) -> Any:
        """Forward in the modes of MMEngine, or in mode 'copy', which is :meth:`copy_loss`.

        The mode 'copy' is for :func:`~resformer_mm.engine.turns.train_by_turns`: what is called through a
        distributed wrapper must be ``forward``.
        """
        if mode == 'copy':
            return self.copy_loss(inputs, data_samples, **kwargs)
        return super().forward(inputs, data_samples, mode, **kwargs)

    def set_consistency(self, consistency: dict | None, target: str) -> None:
        """Set the consistency loss and what it compares.

        Args:
            consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None for none.
            target: one of :attr:`consistency_targets`.

        Raises:
            ValueError: the target is unknown, does not fit the loss, or needs tokens that the backbone does
                not give.
        """
        if target not in self.consistency_targets:
            raise ValueError(
                f'model.consistency_target={target!r} is unknown: choose from {self.consistency_targets}'
            )
        self.consistency, self.consistency_target = None, target
        if consistency is None:
            return
        if 'target' in consistency:
            raise ValueError(
                f'model.consistency.target={consistency["target"]!r}: what is compared is an argument of the '
                f'model, model.consistency_target={consistency["target"]!r}'
            )
        self.consistency = MODELS.build({'_scope_': 'resformer_mm', **consistency})
        if self.consistency.compares_probabilities and target != 'logits':
            raise ValueError(
                f'model.consistency of type {type(self.consistency).__name__} compares class probabilities, '
                f"but model.consistency_target is {target!r}: set it to 'logits'"
            )
        if self.compares_tokens and not hasattr(self.backbone, 'forward_pooled'):
            raise ValueError(
                f'model.consistency_target={target!r} needs a backbone with `forward_pooled`, such as '
                f'resformer_mm.ResFormer, which {type(self.backbone).__name__} is not: set '
                "model.consistency_target='logits' with consistency=dict(type='KLConsistency'), or "
                'consistency=None'
            )
        if target == 'cls' and not getattr(self.backbone, 'with_cls_token', True):
            raise ValueError(
                "model.consistency_target='cls', but model.backbone.with_cls_token is False: set "
                "model.consistency_target='gap'"
            )

    @property
    def compares_tokens(self) -> bool:
        """Whether class or pooled tokens of the backbone are compared."""
        return self.consistency is not None and self.consistency_target in ('cls', 'gap')
