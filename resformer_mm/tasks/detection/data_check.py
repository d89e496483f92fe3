"""Layouts of detection data in COCO format, and their repaired copies."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.datasets.checks.reading import moved
from resformer_mm.datasets.checks.report import CheckReport, Finding
from resformer_mm.datasets.checks.task_check import CheckOptions, Copier, DataCheck
from resformer_mm.engine.classes import name_difference

from .annotations import complete_entries
from .check import AnnotatedImages, check_annotated, read_annotations
from .fixing import write_repaired
from .image_folders import best_folder

MOST_FILES = 100
OTHER_CATEGORIES = 'splits with different classes'
SPLIT = re.compile('train(ing)?|val(id(ation)?)?|test')


class DetectionCheck(DataCheck):
    """Annotation files in COCO format, and folders of images."""

    def in_config(self, cfg: Config) -> list[AnnotatedImages]:
        """Return what the data sets of a config read."""
        return configured_sources(cfg, AnnotatedImages.from_config)

    def below(self, root: Path, options: CheckOptions) -> list[AnnotatedImages]:
        """Return the annotation files in the folder and its subfolders, with the folders of their images."""
        files = [file for folder in (root, *sorted(root.iterdir())) for file in json_files(folder)]
        files.sort(key=_training_first)
        sources = []
        for file in files:
            names = _image_names(file)
            if names:
                sources.append(AnnotatedImages(best_folder(root, file, names)[0], file))
        return sources

    def check(self, sources: Sequence[AnnotatedImages], options: CheckOptions) -> CheckReport:
        """Check all entries and files."""
        report = CheckReport()
        first: dict[str, tuple[str, tuple[str, ...]]] = {}
        for source in sources:
            report.extend(check_annotated(source, options.workers, options.show_progress))
            content, _ = read_annotations(replace(source, foreign=None))
            if content is None:
                continue
            names = {entry['id']: entry['name'] for entry in complete_entries(content, 'categories')}
            entries = complete_entries(content, 'annotations')
            objects = Counter(entry['category_id'] for entry in entries if not entry['iscrowd'])
            wanted = source.classes or tuple(names.values())
            # Without a config that says which classes are learned, those of the training.
            place = (str(source.ann_file), tuple(sorted(map(str, wanted))))
            before = first.setdefault(_kind_of(source.ann_file), place)
            difference = name_difference(before[1], place[1], (before[0], place[0]))
            if source.classes is None and difference is not None:
                report.findings.append(Finding(place[0], OTHER_CATEGORIES, difference))
            counts = {name: objects[key] for key, name in names.items() if name in wanted}
            report.counts_per_class[f'{source.ann_file}: objects'] = counts
            images = complete_entries(content, 'images')
            report.sizes[str(source.ann_file)] = [(image['height'], image['width']) for image in images]
        return report

    def places(self, source: AnnotatedImages) -> list[str]:
        """Return the folder and the file."""
        return [str(source.img_dir), str(source.ann_file)]

    def repair(self, source: AnnotatedImages, copier: Copier) -> tuple[AnnotatedImages, list[str]]:
        """Leave hidden files out, and write the annotation file with every certain repair."""
        repairs = []
        if count := copier.copy_folder(source.img_dir):
            repairs.append(f'{source.img_dir}: {count} hidden files left out')
        place = copier.place(source.ann_file)
        done = write_repaired(source, place)
        repairs += [f'{source.ann_file}: {repair}' for repair in done]
        if not os.path.exists(place):
            copier.copy(source.ann_file)
        copied = replace(
            source,
            img_dir=copier.place(source.img_dir),
            ann_file=place,
            foreign=moved(source.foreign, copier.place),
        )
        return copied, repairs


def json_files(folder: Path) -> list[Path]:
    """Return the JSON files in a folder; none if there are so many that each is of one image."""
    files = list(folder.glob('*.json')) if folder.is_dir() else []
    return files if len(files) <= MOST_FILES or folder.name == 'annotations' else []


def _kind_of(file: str | Path) -> str:
    """Return the end of a path without the split, which the files of one data set have in common."""
    file = Path(file)
    return SPLIT.sub('*', f'{file.parent.name}/{file.name}'.lower())


def _training_first(file: Path) -> tuple[bool, str]:
    return 'train' not in f'{file.parent.name}/{file.name}', str(file)


def _image_names(file: Path) -> list[str]:
    """Return the first names of images in a file; empty if it is not an annotation file."""
    try:
        content = json.loads(file.read_bytes())  # in any Unicode encoding
    except (ValueError, RecursionError):
        # A file called like annotations is one, and is reported as damaged.
        return ['?'] if file.parent.name == 'annotations' else []
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list) or 'categories' not in content:
        return []
    return [str(image.get('file_name')) for image in images[:20] if isinstance(image, dict)] or ['?']
