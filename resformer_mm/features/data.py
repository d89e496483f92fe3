"""Labelled images of a training and a validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from resformer_mm.datasets.checks.configured import innermost_configs
from resformer_mm.datasets.image_labels import image_labels
from resformer_mm.finetuning import prepare_data
from resformer_mm.text import shorten_list

TRAIN, VAL = 'train', 'val'


@dataclass(frozen=True)
class LabelledImages:
    """Images with one class each.

    Attributes:
        paths: the files.
        labels: number of the class of each.
        splits: 'train' or 'val' for each.
        classes: names of the classes.
        notes: how the data was split, one line each.
    """

    paths: list[str]
    labels: list[int]
    splits: list[str]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of_folder(cls, sources: Sequence[Any], folder: Path) -> LabelledImages:
        """Return what a fine-tuning would read, split in the same way.

        Args:
            sources: of :func:`resformer_mm.finetuning.check_folder` for image classification.
            folder: new folder for the lists of a split that is made.

        Raises:
            ValueError: the data cannot be split.
        """
        data = prepare_data('classification', sources, folder)
        common = dict(data_root=data.root, metainfo=dict(classes=list(data.classes)))
        return cls.of_settings({**data.train, **common}, {**data.val, **common}, tuple(data.notes))

    @classmethod
    def of_config(cls, cfg: Config) -> LabelledImages:
        """Return the training and validation images of the config of a classifier.

        The default scope must be that of the config.

        Raises:
            ValueError: the config has no such data sets, or not one image and class per sample.
        """
        settings = []
        for names in (('train_dataloader',), ('val_dataloader', 'test_dataloader')):
            loader = next((cfg[name] for name in names if cfg.get(name)), None)
            found = [] if loader is None else [*innermost_configs(loader['dataset'])]
            if len(found) != 1:
                raise ValueError(
                    f'{cfg.filename or "the config"}: {names[0]} has {len(found)} data sets, but features '
                    'need one: give a folder of data'
                )
            settings.append(found[0])
        return cls.of_settings(settings[0], settings[1])

    @classmethod
    def of_settings(
        cls, train: Mapping[str, Any], val: Mapping[str, Any], notes: tuple[str, ...] = ()
    ) -> LabelledImages:
        """Return the images of two data sets, given by their settings."""
        paths: list[str] = []
        labels: list[int] = []
        splits: list[str] = []
        classes: tuple[str, ...] | None = None
        for split, settings in ((TRAIN, train), (VAL, val)):
            found = image_labels(settings, f'the split {split}', 'features')
            paths += found.paths
            labels += found.labels
            splits += [split] * len(found.paths)
            names = found.classes
            if classes and names and names != classes:
                raise ValueError(
                    f'the classes of the splits differ: {shorten_list(classes)} and {shorten_list(names)}'
                )
            classes = classes or names
        return cls(paths, labels, splits, classes or tuple(map(str, range(max(labels) + 1))), notes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)
