"""Segmentation data sets in ADE20K's layout: a folder of images, a folder of masks of the same names."""

from __future__ import annotations

import logging
from os.path import join, normpath

import mmseg.datasets
from mmengine import fileio
from mmengine.logging import print_log

from resformer_mm.registry import DATASETS
from resformer_mm.text import shorten_list


class CheckedPairs:
    """Checks that mmsegmentation's data sets leave out; a mixin before one of them.

    Every sample also carries ``num_classes`` and ``ignore_index``, by which ``resformer_mm.LoadSegMap``
    checks the labels. Masks without an image are named in a warning.

    Raises:
        FileNotFoundError: a folder, the annotation file, an image or a mask does not exist.
        RuntimeError: there are no images.
    """

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path`` and ``seg_map_path`` per pair."""
        img_dir, ann_dir = (self.data_prefix.get(key) for key in ('img_path', 'seg_map_path'))
        for key, folder in (('img_path', img_dir), ('seg_map_path', ann_dir)):
            if folder is not None and not fileio.isdir(folder, backend_args=self.backend_args):
                raise FileNotFoundError(f'{self._kind}: there is no folder {folder}: {self._remedy(key)}')
        if self.ann_file and not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{self._kind}: there is no annotation file {self.ann_file}: check ann_file'
            )
        data_list = super().load_data_list()
        if not data_list:
            where = self.ann_file or f'{img_dir} (files *{self.img_suffix})'
            raise RuntimeError(f'{self._kind}: no images in {where}: {self._remedy("img_path")}, img_suffix')
        if self.ann_file:
            self._check_exist(data_list, 'img_path', img_dir)
        if ann_dir is not None:
            self._check_exist(data_list, 'seg_map_path', ann_dir)
        for info in data_list:
            info.update(num_classes=len(self.metainfo['classes']), ignore_index=self.ignore_index)
        return data_list

    @property
    def _kind(self) -> str:
        return type(self).__name__

    @staticmethod
    def _remedy(key: str) -> str:
        return f'check data_root, data_prefix.{key}'

    def _check_exist(self, data_list: list[dict], key: str, folder: str) -> None:
        """Compare the files that the samples name with those of a folder, which is listed once."""
        suffix = self.img_suffix if key == 'img_path' else self.seg_map_suffix
        listed = fileio.list_dir_or_file(
            folder, list_dir=False, suffix=suffix, recursive=True, backend_args=self.backend_args
        )
        there = {normpath(join(folder, name)) for name in listed}
        wanted = {normpath(info[key]) for info in data_list}
        what = 'image' if key == 'img_path' else 'mask'
        if missing := sorted(wanted - there):
            raise FileNotFoundError(
                f'{self._kind}: {len(missing)} of {len(wanted)} {what}s do not exist: '
                f'{shorten_list(missing)}. Add them, or take the samples out; {self._remedy(key)} and the '
                f'suffix {suffix!r}'
            )
        if key == 'seg_map_path' and not self.ann_file and (left_over := sorted(there - wanted)):
            print_log(
                f'{self._kind}: {len(left_over)} masks have no image and are not used: '
                f'{shorten_list(left_over)}',
                logger='current',
                level=logging.WARNING,
            )


@DATASETS.register_module()
class ADE20K(CheckedPairs, mmseg.datasets.ADE20KDataset):
    """ADE20K with the 150 classes of the SceneParsing benchmark; value 0 of a mask is ignored."""


@DATASETS.register_module()
class SegmentationFolder(CheckedPairs, mmseg.datasets.BaseSegDataset):
    """Images and masks of any classes.

    The classes stand in ``metainfo.classes`` or, one a line, in a text file. Line by line the file names the
    values 0, 1, 2, ... of a mask; with ``reduce_zero_label=True``, which ignores value 0, its first line
    therefore names what is ignored, and the classes follow.

    Args:
        classes_file: the text file, relative to ``data_root``.
        **kwargs: arguments of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the classes are given nowhere or twice, or the file names none or one of them twice.
    """

    def __init__(
        self,
        *args,
        classes_file: str | None = None,
        metainfo: dict | None = None,
        data_root: str | None = None,
        reduce_zero_label: bool = False,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        metainfo = dict(metainfo or {})
        # MMEngine takes the name of a file that is missing for the classes, letter by letter.
        if (classes_file is None) == ('classes' not in metainfo) or isinstance(metainfo.get('classes'), str):
            raise ValueError(
                'SegmentationFolder: give the names of the classes once, as a list in metainfo.classes or by '
                'the name of their file in classes_file'
            )
        if classes_file is not None:
            path = join(data_root or '', classes_file)
            names = read_classes(path, backend_args)
            metainfo['classes'] = names[1:] if reduce_zero_label else names
        super().__init__(
            *args,
            metainfo=metainfo,
            data_root=data_root,
            reduce_zero_label=reduce_zero_label,
            backend_args=backend_args,
            **kwargs,
        )


def read_classes(path: str, backend_args: dict | None = None) -> tuple[str, ...]:
    """Read names from a text file, one a line; line ``i``, from 0, names value ``i`` of a mask.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has fewer than two names, an empty line between them, or a name twice.
    """
    if not fileio.isfile(path, backend_args=backend_args):
        raise FileNotFoundError(f'there is no file {path} with the names of the classes: check classes_file')
    names = fileio.get_text(path, backend_args=backend_args).strip().splitlines()
    names = tuple(name.strip() for name in names)
    faults = {name for name in names if not name or names.count(name) > 1}
    if len(names) < 2 or faults:
        which = f'{sorted(faults)} empty or named twice' if faults else f'{len(names)} names'
        raise ValueError(f'{path} must hold the name of every value of a mask, one a line: {which}')
    return names
