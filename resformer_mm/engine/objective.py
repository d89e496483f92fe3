"""The multi-resolution objective of all tasks (paper, Equation 3).

A copy of a batch holds every image at one resolution, or every clip at one resolution and number of frames.
Each copy is supervised. Each but the first also learns to agree with the previous one, its teacher. If copies
have only some of the images, the teacher of an image is the last copy before that has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from resformer_mm.models.losses import ScaleConsistency
from resformer_mm.registry import MODELS
from resformer_mm.text import size_text

from .partial_copies import PartialCopy, Taught, add_teacher, pair_with_teachers

if TYPE_CHECKING:
    from mmengine.model import BaseModel as Model
else:
    Model = object


@dataclass(frozen=True)
class Copy:
    """One copy of a batch.

    Attributes:
        inputs: images ``(B, C, H, W)`` or clips ``(B, num_clips, C, T, H, W)``.
        index: position among the copies, 0 for the first, which has no teacher.
        number: number of copies, the r of Equation 3.
        name: suffix of the names of its losses, e.g. '224'.
        rows: positions of its images in the batch, if it has only some of them; None for all.
    """

    inputs: Tensor
    index: int
    number: int
    name: str
    rows: tuple[int, ...] | None = None

    def samples_of(self, data_samples: list) -> list:
        """Return those of the samples of the batch that belong to its images."""
        return _samples_at(self.rows, data_samples)


def enumerate_copies(inputs: Tensor | Sequence[Tensor | PartialCopy]) -> Iterator[Copy]:
    """Yield the copies of a batch under different names.

    Copies of images are named by their resolution, '224' or '224x320' (height x width). Copies of clips that
    differ in their number of frames are named '8x224' (frames x resolution). Copies of equal shape, which
    differ in the sampling of frames, are numbered: '224', '224_2'.
    """
    copies = [inputs] if isinstance(inputs, Tensor) else inputs
    tensors = [one.inputs if isinstance(one, PartialCopy) else one for one in copies]
    all_rows = [one.rows if isinstance(one, PartialCopy) else None for one in copies]
    names = [size_text(tensor.shape[-2:]) for tensor in tensors]
    if tensors[0].ndim == 6 and len({tensor.shape[-3] for tensor in tensors}) > 1:
        names = [f'{tensor.shape[-3]}x{name}' for tensor, name in zip(tensors, names)]
    seen: Counter[str] = Counter()
    for index, (tensor, name, rows) in enumerate(zip(tensors, names, all_rows)):
        seen[name] += 1
        yield Copy(tensor, index, len(tensors), name if seen[name] == 1 else f'{name}_{seen[name]}', rows)


def _samples_at(rows: Sequence[int] | None, data_samples: list) -> list:
    return data_samples if rows is None else [data_samples[row] for row in rows]


class MultiResolutionObjective(Model):
    """``1/r sum_i [L(y_i, t) + alpha SC(z_i, z_{i-1})]`` over the copies of a batch; a mixin before a model.

    L is the supervised loss of the task, SC a :class:`~resformer_mm.models.losses.ScaleConsistency` with its
    weight alpha, and z the compared tensors. No gradient reaches a teacher. The logged terms, e.g.
    ``loss_cls_224`` and ``loss_consistency_160``, contain the factor 1/r and add up to ``loss``.

    Of a :class:`~resformer_mm.engine.PartialCopy`, which has some of the images, L and SC are the means over
    its images, SC over those of them that have a teacher. If images are chosen at random, the expectation of
    the gradient is that of whole copies.

    A task implements :meth:`supervise`, and calls :meth:`set_consistency` when its model is built.
    """

    consistency: ScaleConsistency | None
    consistency_target: str

    consistency_targets: tuple[str, ...] = ('cls', 'gap', 'logits')
    """What may be compared: 'cls', the class token after the final norm; 'gap', the mean of the patch tokens
    after the final norm; 'logits', the class scores."""

    pools_maps: bool = False
    """Whether the model itself takes 'gap' from the map of a backbone without ``forward_pooled``."""

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, see ``ResFormer.get_layer_depth``."""
        return self.backbone.get_layer_depth(param_name, 'backbone.')

    def supervise(self, inputs: Tensor, data_samples: list, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of one copy against the labels, by name, and what is compared between copies.

        Args:
            inputs: the copy.
            data_samples: the samples of its images with their labels, shared by all copies.
            index: position of the copy among the copies.
        """
        raise NotImplementedError

    def comparable(self, student: Tensor, teacher: Tensor, data_samples: list) -> tuple[Tensor, Tensor]:
        """Return student and teacher in one shape, as the consistency loss needs them."""
        return student, teacher

    def loss(self, inputs: Tensor | Sequence[Tensor | PartialCopy], data_samples: list) -> dict[str, Tensor]:
        """Return the named losses of one step.

        Args:
            inputs: the copies of the batch, the one with the most information first; or a single copy.
            data_samples: the B samples with their labels.
        """
        copies = list(enumerate_copies(inputs))
        supervised = (self.supervise(one.inputs, one.samples_of(data_samples), one.index) for one in copies)
        return self.combine(copies, supervised, data_samples)

    def combine(
        self,
        copies: Sequence[Copy],
        supervised: Iterable[tuple[dict[str, Tensor], Tensor]],
        data_samples: list,
    ) -> dict[str, Tensor]:
        """Return the named losses of one step, given what :meth:`supervise` returns for every copy."""
        losses: dict[str, Tensor] = {}
        teachers: Sequence[Taught] = ()
        for one, (terms, student) in zip(copies, supervised):
            named, teachers = self._copy_terms(one, terms, student, data_samples, teachers)
            losses.update(named)
        return losses

    def copy_loss(
        self, one: Copy, data_samples: list, teachers: Sequence[Taught] = ()
    ) -> tuple[dict[str, Tensor], Sequence[Taught]]:
        """Return the named terms of one copy, and the teachers of the next one.

        Args:
            one: the copy.
            data_samples: the B samples with their labels.
            teachers: what this method returned for the previous copy; nothing for the first.
        """
        terms, student = self.supervise(one.inputs, one.samples_of(data_samples), one.index)
        return self._copy_terms(one, terms, student, data_samples, teachers)

    def _copy_terms(
        self,
        one: Copy,
        terms: dict[str, Tensor],
        student: Tensor,
        data_samples: list,
        teachers: Sequence[Taught],
    ) -> tuple[dict[str, Tensor], Sequence[Taught]]:
        losses = {
            f'{name}_{one.name}': value / one.number if 'loss' in name else value
            for name, value in terms.items()
        }
        if self.consistency is None:
            return losses, ()
        paired = pair_with_teachers(student, one.rows, teachers)
        if paired is not None:
            own, teacher, rows = paired
            compared = self.comparable(own, teacher, _samples_at(rows, data_samples))
            losses[f'loss_consistency_{one.name}'] = self.consistency(*compared) / one.number
        return losses, add_teacher(teachers, student.detach(), one.rows)

    def forward(
        self, inputs: Tensor | Copy, data_samples: list | None = None, mode: str = 'tensor', **kwargs
    ) -> Any:
        """Forward in the modes of MMEngine, or in mode 'copy', which is :meth:`copy_loss`.

        The mode 'copy' is for :func:`~resformer_mm.engine.turns.train_by_turns`: a distributed wrapper calls
        ``forward`` only.
        """
        if mode == 'copy':
            assert isinstance(inputs, Copy) and data_samples is not None
            return self.copy_loss(inputs, data_samples, **kwargs)
        return super().forward(inputs, data_samples, mode, **kwargs)

    def set_consistency(self, consistency: dict | None, target: str) -> None:
        """Set the consistency loss and what it compares.

        Args:
            consistency: config of a :class:`~resformer_mm.models.losses.ScaleConsistency`; None for none.
            target: one of :attr:`consistency_targets`.

        Raises:
            ValueError: the target is unknown, does not fit the loss, or needs tokens that the backbone does
                not have.
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
        is_map = self.pools_maps and target == 'gap'
        if self.compares_tokens and not is_map and not hasattr(self.backbone, 'forward_pooled'):
            of_map = "'gap', or " if self.pools_maps else ''
            raise ValueError(
                f'model.consistency_target={target!r} needs a backbone with `forward_pooled`, such as '
                f'resformer_mm.ResFormer, but {type(self.backbone).__name__} has none: set '
                f"model.consistency_target={of_map}'logits' with consistency=dict(type='KLConsistency'), or "
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
