"""Segmentation data sets in ADE20K's layout, with input validation."""

from __future__ import annotations

import logging
from collections import Counter
from os.path import join, normpath, relpath, splitext

import mmseg.datasets
from mmengine import fileio
from mmengine.logging import print_log

from resformer_mm.datasets.checks.images import IMAGE_ENDINGS
from resformer_mm.datasets.label_lists import read_lines
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.hidden_files import is_hidden, visible
from resformer_mm.registry import DATASETS
from resformer_mm.repairs import remark
from resformer_mm.text import shorten_list

from .label_maps import LabelValues, absent_classes, decode_label_map, value_counts
from .load_seg_map import CHECK, LoadSegMap
from .name_lists import names_problem, read_names

# Masks that are read when the data set is loaded; each takes some milliseconds.
PROBES = 16


class CheckedPairs(mmseg.datasets.BaseSegDataset):
    """A data set of mmsegmentation with input validation.

    Every sample also carries ``num_classes`` and ``ignore_index``, which ``resformer_mm.LoadSegMap`` needs to
    check the labels. A warning lists masks without an image.

    Raises:
        FileNotFoundError: a folder, the annotation file, an image or a mask does not exist.
        RuntimeError: no images were found.
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
        if self.ann_file:
            data_list = self._listed(img_dir, ann_dir)
        else:
            others = self._other_images(img_dir)  # first, because it notices links that lead back
            data_list = super().load_data_list()
            names = [relpath(info['img_path'], img_dir) for info in data_list]
            kept = set(visible(img_dir, names))
            data_list = [info for info, name in zip(data_list, names) if name in kept]
        if not data_list:
            where = self.ann_file or f'{img_dir} (*{self.img_suffix}); it has {others or "no other images"}'
            raise RuntimeError(
                f'{self._kind}: no images in {where}: {self._remedy("img_path")} and img_suffix'
            )
        if not self.ann_file and others:
            remark(img_dir, f'images whose names do not end in {self.img_suffix} left out: {others}')
        if self.ann_file:
            self._check_exist(data_list, 'img_path', img_dir)
        if ann_dir is not None:
            self._check_exist(data_list, 'seg_map_path', ann_dir)
            self._look_at_masks(data_list, ann_dir)
        for info in data_list:
            info.update(num_classes=len(self.metainfo['classes']), ignore_index=self.ignore_index)
        return data_list

    def _look_at_masks(self, data_list: list[dict], ann_dir: str) -> None:
        """Warn if the values of a few masks show that they are not those of the classes."""
        if not any(isinstance(step, LoadSegMap) for step in self.pipeline.transforms):
            return
        classes = self.metainfo['classes']
        labels = LabelValues(len(classes), self.reduce_zero_label, self.ignore_index, self.label_map)
        counts: Counter[int] = Counter()
        probes = data_list[:: max(1, len(data_list) // PROBES)]
        for info in probes:
            try:
                mask = read_file(info['seg_map_path'], self.backend_args)
                counts.update(value_counts(decode_label_map(mask)))
            except Exception:  # named where it is loaded
                return
        absent, is_fault = absent_classes(counts, labels, classes) or ('', False)
        if is_fault:
            remark(ann_dir, f'in {len(probes)} masks, {absent}. {CHECK}')

    def _listed(self, img_dir: str, ann_dir: str | None) -> list[dict]:
        """Return the entries of the names in the annotation file, as the base class makes them."""

        def image(name: str) -> str:
            return join(img_dir, name + self.img_suffix)

        def exists(name: str) -> bool:
            return fileio.isfile(image(name), backend_args=self.backend_args)

        names = read_names(self.ann_file, self.img_suffix, exists, self.backend_args)
        common = dict(label_map=self.label_map, reduce_zero_label=self.reduce_zero_label)
        masks: list[dict] = [{}] * len(names)
        if ann_dir is not None:
            masks = [dict(seg_map_path=join(ann_dir, name + self.seg_map_suffix)) for name in names]
        return [
            dict(img_path=image(name), **mask, **common, seg_fields=[]) for name, mask in zip(names, masks)
        ]

    def _other_images(self, img_dir: str) -> str:
        """Return the number of images with other suffixes by suffix, as text; '' if there are none."""
        suffixes: Counter[str] = Counter()
        own: tuple[str, ...] = (self.img_suffix,)
        if normpath(self.data_prefix.get('seg_map_path') or '') == normpath(img_dir):
            own += (self.seg_map_suffix,)
        for name in list_files(img_dir, backend_args=self.backend_args):
            if not name.endswith(own) and not is_hidden(name) and splitext(name)[1].lower() in IMAGE_ENDINGS:
                suffixes[splitext(name)[1]] += 1
        return ', '.join(f'{count} {suffix}' for suffix, count in suffixes.most_common())

    @property
    def _kind(self) -> str:
        return type(self).__name__

    @staticmethod
    def _remedy(key: str) -> str:
        return f'check data_root, data_prefix.{key}'

    def _check_exist(self, data_list: list[dict], key: str, folder: str) -> None:
        """Check that the files of all samples exist. The folder is listed only once."""
        suffix = self.img_suffix if key == 'img_path' else self.seg_map_suffix
        listed = list_files(folder, suffix, self.backend_args)
        existing = {normpath(join(folder, name)) for name in listed if not is_hidden(name)}
        required = {normpath(info[key]) for info in data_list}
        what = 'image' if key == 'img_path' else 'mask'
        if missing := sorted(required - existing):
            names = [relpath(path, folder).removesuffix(suffix) for path in missing] if self.ann_file else []
            raise FileNotFoundError(
                f'{self._kind}: {len(missing)} of {len(required)} {what}s do not exist: '
                f'{shorten_list(missing)}. Add them, or remove the samples; {self._remedy(key)} and the '
                f'suffix {suffix!r}{names_problem(names)}'
            )
        if key == 'seg_map_path' and not self.ann_file and (left_over := sorted(existing - required)):
            print_log(
                f'{self._kind}: {len(left_over)} masks have no image and are ignored: '
                f'{shorten_list(left_over)}',
                logger='current',
                level=logging.WARNING,
            )


@DATASETS.register_module()
class ADE20K(CheckedPairs, mmseg.datasets.ADE20KDataset):
    """ADE20K with the 150 classes of the SceneParsing benchmark. Mask value 0 is ignored."""


@DATASETS.register_module()
class SegmentationFolder(CheckedPairs):
    """Images and masks with any set of classes.

    The classes are given in ``metainfo.classes`` or in a text file with one name per line. The lines of the
    file name the mask values 0, 1, 2, ... in order. With ``reduce_zero_label=True``, which ignores value 0,
    the first line therefore names the ignored label, and the classes follow.

    Args:
        classes_file: the text file, relative to ``data_root``.
        **kwargs: arguments of :class:`mmseg.datasets.BaseSegDataset`.

    Raises:
        FileNotFoundError: the text file does not exist.
        ValueError: the classes are given neither way or both ways, or the names in the file are too few,
            empty or repeated.
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
        # If the file does not exist, MMEngine treats its name as the classes, letter by letter.
        if (classes_file is None) == ('classes' not in metainfo) or isinstance(metainfo.get('classes'), str):
            raise ValueError(
                'SegmentationFolder: give the class names exactly once, as a list in metainfo.classes or as '
                'a text file in classes_file'
            )
        self.classes_path = ''
        if classes_file is not None:
            self.classes_path = join(data_root or '', classes_file)
            names = read_classes(self.classes_path, backend_args)
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
    """Read class names from a text file, one per line. Line ``i``, counted from 0, names mask value ``i``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has fewer than two names, an empty line between names, or a repeated name.
    """
    if not fileio.isfile(path, backend_args=backend_args):
        raise FileNotFoundError(f'there is no file of class names {path}: check classes_file')
    text = '\n'.join(read_lines(path, backend_args)).strip()
    names = tuple(line.strip() for line in text.split('\n'))
    faults = {name for name in names if not name or names.count(name) > 1}
    if len(names) < 2 or faults:
        which = f'{sorted(faults)} empty or repeated' if faults else f'found {len(names)} names'
        raise ValueError(f'{path} must contain a name for every mask value, one per line: {which}')
    return names
