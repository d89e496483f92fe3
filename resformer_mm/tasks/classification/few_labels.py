"""Image folders with few labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import DATASETS
from resformer_mm.text import shorten_list

from .folders import ImageFolder


@DATASETS.register_module()
class FewLabelsFolder(ImageFolder):
    """A few images of every class of an :class:`ImageFolder`.

    The choice depends on the names of the files and the seed alone. Of the same seed, a smaller choice is a
    part of a larger one.

    Args:
        per_class: number of images of every class; None takes all.
        choice_seed: seed of the choice.
        **kwargs: arguments of :class:`ImageFolder`, with labels.

    Raises:
        ValueError: ``per_class`` is not a positive integer, a class has fewer images, or ``with_label`` is
            False.
    """

    def __init__(self, *args, per_class: int | None = 10, choice_seed: int = 0, **kwargs) -> None:
        if per_class is not None and (isinstance(per_class, bool) or not isinstance(per_class, int)):
            raise ValueError(f'{self._kind}: per_class={per_class!r} must be an integer, or None for all')
        if per_class is not None and per_class < 1:
            raise ValueError(f'{self._kind}: per_class={per_class} must be at least 1')
        self.per_class = per_class
        self.choice_seed = choice_seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path`` and ``gt_label`` for each of the chosen images."""
        if not self.with_label:
            raise ValueError(f'{self._kind}: with_label=False leaves no labels to choose from')
        return self.choose(super().load_data_list())

    def choose(self, data: list[dict]) -> list[dict]:
        """Return the chosen entries, class by class.

        Args:
            data: all entries, with ``gt_label``.

        Raises:
            ValueError: a class has too few.
        """
        if self.per_class is None:
            return data
        by_class: dict[int, list[dict]] = {}
        for entry in data:
            by_class.setdefault(entry['gt_label'], []).append(entry)
        if few := [label for label, entries in by_class.items() if len(entries) < self.per_class]:
            names = [self.CLASSES[label] if self.CLASSES else str(label) for label in sorted(few)]
            raise ValueError(
                f'{self._kind}: fewer than per_class={self.per_class} images in classes of '
                f'{self.ann_file or self.img_prefix}: {shorten_list(names)}. Lower per_class'
            )
        chosen: list[dict] = []
        for label in sorted(by_class):
            order = np.random.default_rng([self.choice_seed, label]).permutation(len(by_class[label]))
            chosen += [by_class[label][number] for number in order[: self.per_class]]
        return chosen


@DATASETS.register_module()
class PartlyLabelledFolder(FewLabelsFolder):
    """Labelled images first, then images without a label, for semi-supervised training.

    The unlabelled images are all images of the folder, of which the labelled ones are a part, and those of
    ``unlabelled_prefix``. No entry of them has a label, so none can reach the model.

    Args:
        unlabelled_prefix: folder with further images, at any depth, whose labels are not known; relative to
            ``data_root``.
        **kwargs: arguments of :class:`FewLabelsFolder`.

    Attributes:
        num_labelled: number of labelled entries; known once the list is loaded.

    Raises:
        ValueError: see :class:`FewLabelsFolder`; or ``indices`` are given.
        RuntimeError: ``unlabelled_prefix`` contains no images.
    """

    num_labelled: int

    def __init__(self, *args, unlabelled_prefix: str | None = None, **kwargs) -> None:
        if kwargs.get('indices') is not None:
            raise ValueError(
                f'{self._kind}: indices would mix up labelled and unlabelled images; use per_class'
            )
        self.unlabelled_prefix = unlabelled_prefix
        super().__init__(*args, **kwargs)

    def choose(self, data: list[dict]) -> list[dict]:
        """Return the chosen entries, then all without their labels, then those of the other folder."""
        chosen = super().choose(data)
        self.num_labelled = len(chosen)
        unlabelled = [{name: value for name, value in entry.items() if name != 'gt_label'} for entry in data]
        return [*chosen, *unlabelled, *self._further()]

    def _further(self) -> Iterable[dict]:
        if self.unlabelled_prefix is None:
            return []
        folder = ImageFolder(
            data_root=self.data_root,
            data_prefix=self.unlabelled_prefix,
            with_label=False,
            extensions=self.extensions,
        )
        return [dict(img_path=folder.get_data_info(number)['img_path']) for number in range(len(folder))]

    def _rand_another(self) -> int:
        """Return another index of the same kind in the place of a skipped image."""
        is_labelled = self._wanted < self.num_labelled
        low, high = (0, self.num_labelled) if is_labelled else (self.num_labelled, len(self))
        index = int(np.random.randint(low, high))
        if isinstance(self._wanted, ResolutionIndex):
            return ResolutionIndex(index, *self._wanted.resolutions)
        return index
