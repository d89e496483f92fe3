"""Image classification data sets on disk, with input validation."""

from __future__ import annotations

import mmpretrain.datasets
from mmengine import fileio

from resformer_mm.datasets.samplers import KeepResolution
from resformer_mm.registry import DATASETS


class CheckedFolders(KeepResolution, mmpretrain.datasets.CustomDataset):
    """A folder data set of mmpretrain with input validation.

    Raises:
        FileNotFoundError: the folder or the annotation file does not exist.
        RuntimeError: the folder contains no images.
        ValueError: a line of the annotation file has no label, or a label outside the classes.
    """

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path`` and ``gt_label`` per image."""
        kind = type(self).__name__
        if self.ann_file and not fileio.exists(self.ann_file):
            raise FileNotFoundError(f'{kind}: there is no annotation file {self.ann_file}: check ann_file')
        if self.ann_file and self.with_label:
            self._check_annotations()
        if not self.ann_file and not fileio.isdir(self.img_prefix):
            raise FileNotFoundError(
                f'{kind}: there is no folder {self.img_prefix}: check data_root, split and data_prefix'
            )
        try:
            data_list = super().load_data_list()
        except RuntimeError as error:
            raise RuntimeError(
                f'{kind}: {self.img_prefix} contains no images in class folders ({error}): check data_root, '
                'split and data_prefix, and that each class has its own folder'
            ) from error
        except AssertionError as error:
            raise ValueError(f'{kind}: {self.img_prefix}: {error}') from error
        if not data_list:
            raise RuntimeError(f'{kind}: {self.ann_file or self.img_prefix} lists no images')
        return data_list

    def _check_annotations(self) -> None:
        classes = self.CLASSES
        for number, line in enumerate(fileio.list_from_file(self.ann_file), 1):
            name, _, label = line.strip().rpartition(' ')
            if not name or not label.lstrip('-').isdigit():
                raise ValueError(f'{self.ann_file}, line {number}: {line!r} is not `PATH LABEL`')
            if int(label) < 0 or (classes is not None and int(label) >= len(classes)):
                bound = '0 or more' if classes is None else f'0..{len(classes) - 1}'
                raise ValueError(
                    f'{self.ann_file}, line {number}: label {label} of {name} is outside the classes '
                    f'({bound}): correct the line, or metainfo.classes'
                )


@DATASETS.register_module()
class ImageFolder(CheckedFolders):
    """Images in one folder per class, or listed as ``PATH LABEL`` lines in an annotation file."""


@DATASETS.register_module()
class ImageNet(CheckedFolders, mmpretrain.datasets.ImageNet):
    """ImageNet-1k in one folder per class, or listed in ``meta/{train,val}.txt``."""
