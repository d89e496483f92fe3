"""Semi-supervised multi-resolution training: a slowly moving teacher at the largest size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from resformer_mm.engine.partial_copies import PartialCopy
from resformer_mm.models.losses import PseudoLabelConsistency
from resformer_mm.registry import MODELS

from .model import MultiResolutionClassifier
from .preprocessor import MultiResolutionDataPreprocessor

SCORE = 'teacher_score'
SAMPLER = (
    "train_dataloader.sampler=dict(type='resformer_mm.PartlyLabelledSampler', ...), whose batch_size is that "
    'of the loader, with a resformer_mm.PartlyLabelledFolder as the data set'
)


@MODELS.register_module()
class SemiSupervisedClassifier(MultiResolutionClassifier):
    """A multi-resolution classifier that also learns from images without labels.

    The labelled images of a batch come first, and are supervised at every resolution as in
    :class:`MultiResolutionClassifier`. The others learn what a teacher predicts for them at the first, which
    is the largest resolution: every resolution is a student. The teacher is an average of the weights over
    the steps so far (Tarvainen and Valpola, arXiv 1703.01780), which a :class:`TeacherHook` keeps. Scale
    consistency between the resolutions needs no labels and holds for all images.

    The term of a resolution, e.g. ``loss_unlabelled_64``, contains the factor 1/r as the others.
    ``confident_64`` is the share of the unlabelled images that count.

    Args:
        unlabelled: config of the loss between the class scores of student and teacher:
            :class:`~resformer_mm.models.losses.PseudoLabelConsistency`, or
            :class:`~resformer_mm.models.losses.KLConsistency`.
        **kwargs: arguments of :class:`MultiResolutionClassifier`.

    Raises:
        ValueError: the loss does not compare class scores; the data preprocessor does not keep unlabelled
            images apart; raised in training: there is no teacher, or a batch does not start with labelled
            samples.
    """

    def __init__(self, *args, unlabelled: dict = dict(type='PseudoLabelConsistency'), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.unlabelled = MODELS.build({'_scope_': 'resformer_mm', **unlabelled})
        if not getattr(self.unlabelled, 'compares_probabilities', False):
            raise ValueError(
                f'model.unlabelled of type {type(self.unlabelled).__name__} does not compare class scores: '
                'use PseudoLabelConsistency or KLConsistency'
            )
        if not isinstance(self.data_preprocessor, PartlyLabelledDataPreprocessor):
            raise ValueError(
                f'model.data_preprocessor is a {type(self.data_preprocessor).__name__}, which expects a '
                'label of every image: set its type to resformer_mm.PartlyLabelledDataPreprocessor'
            )
        # In a tuple, it is not a part of this module: it has no gradient, and checkpoints have it elsewhere.
        self._teacher: tuple[nn.Module, ...] = ()

    def set_teacher(self, teacher: nn.Module) -> None:
        """Set the model that predicts the classes of unlabelled images; it is not changed here.

        Args:
            teacher: a classifier with the same classes, in evaluation mode.
        """
        self._teacher = (teacher,)

    def label_losses(
        self, scores: Tensor, inputs: Tensor, data_samples: list[DataSample], index: int
    ) -> dict[str, Tensor]:
        """Return the losses of the labelled and of the unlabelled images at one resolution."""
        number = count_labelled(data_samples)
        losses = super().label_losses(scores[:number], inputs[:number], data_samples[:number], index)
        if number == len(data_samples):
            return losses
        if index == 0:
            # Kept in the samples, which all resolutions of a step share, in turn-by-turn training as well.
            for sample, score in zip(data_samples[number:], self.teach(inputs[number:])):
                sample.set_field(score, SCORE)
        teacher = torch.stack([sample.get(SCORE) for sample in data_samples[number:]])
        losses['loss_unlabelled'] = self.unlabelled(scores[number:], teacher)
        if index == 0 and isinstance(self.unlabelled, PseudoLabelConsistency):
            losses['confident'] = self.unlabelled.counts(teacher).mean()
        return losses

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Return the class scores of the teacher, ``(B, num_classes)``, in float32.

        Args:
            images: ``(B, 3, H, W)``, normalised.

        Raises:
            ValueError: there is no teacher.
        """
        if not self._teacher:
            raise ValueError(
                'the model has no teacher for its unlabelled images: set '
                "custom_hooks=[dict(type='resformer_mm.TeacherHook', ...)]"
            )
        scores: Tensor = self._teacher[0](images, mode='tensor')
        return scores.float()


@MODELS.register_module()
class PartlyLabelledDataPreprocessor(MultiResolutionDataPreprocessor):
    """A :class:`MultiResolutionDataPreprocessor` of batches in which only the first samples have labels.

    Args:
        **kwargs: arguments of :class:`MultiResolutionDataPreprocessor` except ``mix``.

    Raises:
        ValueError: ``mix`` is given; a batch does not start with labelled samples; or only a part of the
            images has a copy at some resolution.
    """

    def __init__(self, *args, mix: dict | None = None, **kwargs) -> None:
        if mix is not None:
            raise ValueError('data_preprocessor.mix would mix images with and without labels: set it to None')
        super().__init__(*args, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``inputs`` and ``data_samples`` for the model."""
        samples = data.get('data_samples')
        if not training or samples is None:
            return super().forward(data, training)
        if any(isinstance(one, PartialCopy) for one in data['inputs']):
            raise ValueError(
                'train_dataloader.batch_sampler gives some resolutions to a part of the images, which may '
                'have no labels: set its batch_sizes to None, or its type to MultiResolutionBatchSampler'
            )
        labelled = samples[: count_labelled(samples)]
        found = super().forward({**data, 'data_samples': labelled}, training)
        return {**found, 'data_samples': [*found['data_samples'], *samples[len(labelled) :]]}


def count_labelled(data_samples: Sequence[DataSample]) -> int:
    """Return the number of labelled samples of a batch.

    Raises:
        ValueError: there are none, or they do not come first.
    """
    has_label = ['gt_label' in sample for sample in data_samples]
    number = sum(has_label)
    if not number or not all(has_label[:number]):
        raise ValueError(
            f'{number} of the {len(has_label)} samples of a batch have labels, and they must be the first '
            f'ones, at least one: use {SAMPLER}'
        )
    return number
