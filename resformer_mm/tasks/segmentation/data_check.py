"""Layouts of segmentation data, and their repaired copies."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from PIL import Image

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.reading import moved
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.datasets.checks.task_check import CheckOptions, Copier, DataCheck
from resformer_mm.datasets.label_lists import read_lines
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.hidden_files import is_hidden
from resformer_mm.repairs import collected

from .check import PairFolders, check_pairs
from .folders import read_classes
from .label_maps import LabelValues, NotALabelMapError, decode_label_map, has_several_channels
from .mask_layouts import MaskFolders, common_suffix, find_masks, pair_folders, value_names

ADE20K = ('images', 'annotations')


class SegmentationCheck(DataCheck):
    """Folders of images and masks of the same names."""

    def in_config(self, cfg: Config) -> list[PairFolders]:
        """Return what the data sets of a config read."""
        return configured_sources(cfg, PairFolders.from_config)

    def below(self, root: Path, options: CheckOptions) -> list[PairFolders]:
        """Return the folders ``images`` and ``annotations``, or of other usual names, with their splits and
        lists."""
        parts = _parts(root)
        if not parts:
            return []
        is_ade20k = (parts[0].images.parent.name, parts[0].masks.parent.name) == ADE20K
        reduce = is_ade20k if options.reduce_zero_label is None else options.reduce_zero_label
        number, classes = options.num_classes, None
        names = root / 'classes.txt'
        has_names = names.is_file()
        named = read_classes(str(names)) if has_names else value_names([part.images for part in parts])
        if named:
            classes = named[int(reduce) :]
            if number not in (None, len(classes)):
                raise ValueError(
                    f'{names if has_names else root} names {len(classes)} '
                    f'classes{" besides the ignored value 0" if reduce else ""}, but --num-classes is '
                    f'{number}: correct one of them, or --[no-]reduce-zero-label'
                )
            number = len(classes)
        if number is None:
            raise ValueError(
                f'{root} has no classes.txt: write the names of the values 0, 1, ... to it, one per line, or '
                'give --num-classes'
            )
        labels = LabelValues(number, reduce, options.ignore_index)
        return [
            PairFolders(
                part.images,
                part.masks,
                labels,
                part.img_suffix,
                part.mask_suffix,
                part.names() if part.ann_file else None,
                classes=classes,
                ann_file=str(part.ann_file or ''),
                classes_file=str(names) if has_names else '',
            )
            for part in parts
        ]

    def check(self, sources: Sequence[PairFolders], options: CheckOptions) -> CheckReport:
        """Check all files."""
        report = CheckReport()
        for source in sources:
            report.extend(check_pairs(source, None, options.workers, options.show_progress))
        return report

    def places(self, source: PairFolders) -> list[str]:
        """Return both folders, and the files of names."""
        files = filter(None, (source.ann_file, source.classes_file))
        return [str(source.img_dir), str(source.ann_dir), *files]

    def repair(self, source: PairFolders, copier: Copier) -> tuple[PairFolders, list[str]]:
        """Leave hidden files out, and write masks of equal channels with one channel."""
        repairs, channels = [], 0
        for folder in dict.fromkeys((str(source.img_dir), str(source.ann_dir))):
            if count := copier.copy_folder(folder):
                repairs.append(f'{folder}: {count} hidden files left out')
        for name in list_files(source.ann_dir, source.seg_map_suffix):
            if is_hidden(name):
                continue
            content = read_file(Path(source.ann_dir, name))
            try:
                if not has_several_channels(content):
                    continue
                values = decode_label_map(content)
            except (OSError, NotALabelMapError):
                continue  # reported by the check of the copy
            kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower(), 'PNG')
            if kind == 'JPEG':
                continue  # to write it anew would change its values
            written = io.BytesIO()
            Image.fromarray(values).save(written, format=kind)
            Path(copier.place(source.ann_dir), name).write_bytes(written.getvalue())
            channels += 1
        if channels:
            repairs.append(f'{source.ann_dir}: {channels} masks of equal channels written with one channel')
        repairs += _write_texts(source, copier)
        copied = replace(
            source,
            img_dir=copier.place(source.img_dir),
            ann_dir=copier.place(source.ann_dir),
            ann_file=copier.place(source.ann_file) if source.ann_file else '',
            classes_file=copier.place(source.classes_file) if source.classes_file else '',
            repairs=(),
            foreign=moved(source.foreign, copier.place),
        )
        return copied, repairs


def _parts(root: Path) -> list[MaskFolders]:
    """Return the images and masks of a folder, also where no mask has the name of an image."""
    pairs = pair_folders(root)
    found = [part for part in find_masks(root) if not part.is_mixed]
    if len(found) >= len(pairs):
        return found
    suffixes = [(common_suffix(images), common_suffix(masks)) for images, masks in pairs]
    if not any(all(both) for both in suffixes):
        return []
    return [
        MaskFolders('', *folders, images or '.jpg', masks or '.png')
        for folders, (images, masks) in zip(pairs, suffixes)
    ]


def _write_texts(source: PairFolders, copier: Copier) -> list[str]:
    """Write the lists of images and of classes in UTF-8; return what was repaired."""
    repairs = []
    with collected():
        texts = {source.classes_file: read_lines(source.classes_file) if source.classes_file else []}
    texts[source.ann_file] = list(source.names or ())
    for path, lines in texts.items():
        if path:
            content = ''.join(f'{line}\n' for line in lines).encode()
            copier.write(path, content)
            if content.split() != read_file(path).split():
                repairs.append(f'{path}: written as one name a line in UTF-8')
    return repairs
