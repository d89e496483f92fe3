"""Detection data sets in COCO format, with input validation."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from os.path import dirname, join, normpath
from pathlib import Path
from typing import Any

import mmdet.datasets
from mmdet.datasets.api_wrappers import COCO as CocoIndex
from mmengine import fileio
from mmengine.logging import print_log

from resformer_mm.registry import DATASETS
from resformer_mm.repairs import remark, repair
from resformer_mm.text import shorten_list

from .annotations import (
    BEYOND,
    CROWD_REMEDY,
    FATAL,
    SAME_FILE,
    UNUSED,
    class_problem,
    crowd_text,
    find_problems,
    json_problem,
    structure_problem,
)
from .file_names import FoundNames, advice, find_images, image_prefix
from .image_folders import folder_hint
from .masks import BROKEN_PART, UNMASKED
from .repairing import Repair, parse_annotations, take_crowds_as_objects

REMEDY = 'tools/dataset_converters/check_detection.py lists all of them'


class AnnotationError(ValueError):
    """An annotation file that cannot be used. The message names the file and a remedy."""


class CheckedIndex(CocoIndex):
    """The pycocotools index of the content of an annotation file that was already read.

    Args:
        content: the decoded JSON.
    """

    def __init__(self, content: dict) -> None:
        super().__init__()
        self.dataset = content
        self.createIndex()

    def createIndex(self) -> None:  # noqa: N802  pycocotools' name
        """Index the content, without pycocotools' messages of progress."""
        with redirect_stdout(StringIO()):
            super().createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs  # mmdetection's names


class CheckedAnnotations(mmdet.datasets.CocoDataset):
    """A COCO data set of mmdetection with input validation.

    A warning counts and lists annotations and images that are not used. Crowd regions are ignored in
    training, and so are objects with a missing or broken mask if masks are loaded. Ignored means that they
    are neither learned nor counted as background, if the detector's assigners are configured for it
    (``ignore_iof_thr``).

    What is certain is repaired when the file is read, see :mod:`resformer_mm.tasks.detection.repairing` and
    :mod:`resformer_mm.tasks.detection.file_names`.

    Args:
        *args: arguments of :class:`mmdet.datasets.CocoDataset`.
        crowd_as_objects: take crowd regions as objects, because a tool exported every mask as one. The
            project's ``CocoMetric`` follows this setting of its data set.
        strip_prefix: beginning of the file names in the annotation file that is removed, such as
            ``/data/upload/7/``, or a list of several.
        metainfo: meta information, e.g. ``classes``.
        **kwargs: other arguments of :class:`mmdet.datasets.CocoDataset`.

    Raises:
        FileNotFoundError: the annotation file, the folder or an image does not exist.
        AnnotationError: the file is invalid, its categories do not match ``metainfo.classes`` or their order,
            or it has no object to learn from.
        StrictError: strict mode is set, and the file needs a repair.
    """

    def __init__(
        self,
        *args,
        crowd_as_objects: bool = False,
        strip_prefix: str | Sequence[str] = '',
        metainfo: dict | None = None,
        **kwargs,
    ) -> None:
        self.crowd_as_objects = crowd_as_objects
        self.strip_prefix = tuple(
            filter(None, [strip_prefix] if isinstance(strip_prefix, str) else strip_prefix)
        )
        if crowd_as_objects:
            metainfo = {**(metainfo or {}), 'crowd_as_objects': True}
        if metainfo is not None:
            kwargs['metainfo'] = metainfo
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path``, ``height``, ``width`` and ``instances`` per image."""
        folder = self._folder
        if not self.ann_file or not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{self._kind}: there is no annotation file {self.ann_file!r}: check data_root and ann_file'
            )
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{self._kind}: there is no folder {folder}: check data_root and data_prefix.img'
            )
        data_list = super().load_data_list()
        instances = [instance for info in data_list for instance in info['instances']]
        if not self.test_mode and all(instance['ignore_flag'] for instance in instances):
            remedy = CROWD_REMEDY if instances else 'Check ann_file and metainfo.classes'
            what = 'object of the classes to learn from'
            if instances:
                what += f', only {len(instances)} crowd regions (iscrowd 1) or objects without a mask'
            raise AnnotationError(f'{self._kind}: {self.ann_file} has no {what}. {remedy}')
        for instance in instances:
            # mmdetection fails to load objects without a mask, but ignores those with an empty one.
            instance.setdefault('mask', [])
        return data_list

    def COCOAPI(self, path: str) -> CheckedIndex:  # noqa: N802  mmdetection's name
        """Read, repair and check the annotation file, from a local copy if it is on remote storage."""
        where = f'{self._kind}: {self.ann_file}'
        content, repairs = decode_annotations(Path(path).read_bytes(), where)
        found = find_images(content, self._folder, self.strip_prefix, self.backend_args)
        tell_repairs(self.ann_file, repairs + found.repairs)  # by the path, as the metric does
        self._check_images_exist(found)
        self._check_content(content)
        return CheckedIndex(content)

    def filter_data(self) -> list[dict]:
        """Return the images that pass ``filter_cfg``, and log how many do not."""
        kept = super().filter_data()
        if dropped := len(self.data_list) - len(kept):
            print_log(
                f'{self._kind}: {dropped} of {len(self.data_list)} images of {self.ann_file} are not '
                f'used in training because of filter_cfg={self.filter_cfg}',
                logger='current',
            )
        if not kept:
            raise AnnotationError(
                f'{self._kind}: filter_cfg={self.filter_cfg} leaves none of the {len(self.data_list)} images '
                f'of {self.ann_file}: lower min_size, or check the annotations and metainfo.classes'
            )
        return kept

    @property
    def _folder(self) -> str:
        return self.data_prefix.get('img') or self.data_root

    @property
    def _kind(self) -> str:
        return type(self).__name__

    @property
    def _loads_masks(self) -> bool:
        return any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms)

    def _check_content(self, content: Any) -> None:
        problems: dict[str, list[str]] = defaultdict(list)
        for problem in find_problems(content):
            problems[problem.kind].append(str(problem))
        if fatal := [kind for kind in FATAL if kind in problems]:
            summary = '; '.join(
                f'{kind} ({len(problems[kind])}): {shorten_list(problems[kind])}' for kind in fatal
            )
            raise AnnotationError(f'{self._kind}: {self.ann_file}: {summary}. {REMEDY}')
        names = [category['name'] for category in content['categories']]
        if (mismatch := class_problem(self.metainfo['classes'], names)) is not None:
            raise AnnotationError(f'{self._kind}: {self.ann_file}: {mismatch}')
        if self.crowd_as_objects:
            take_crowds_as_objects(content)
        elif (crowds := crowd_text(content)) is not None:
            remark(f'{self._kind}: {self.ann_file}', f'{crowds}. {CROWD_REMEDY}')
        self._warn(problems, UNUSED, 'annotations are not used')
        self._warn(problems, (SAME_FILE,), 'images are used twice')
        self._warn(problems, (BEYOND,), 'boxes are clipped to the image')
        if self._loads_masks:
            self._check_masks(problems, len(content.get('annotations', [])))

    def _check_masks(self, problems: dict[str, list[str]], number: int) -> None:
        unmasked = sum(len(problems.get(kind, [])) for kind in UNMASKED)
        if unmasked and (self.test_mode or unmasked >= number):
            names = [name for kind in UNMASKED for name in problems.get(kind, [])]
            raise AnnotationError(
                f'{self._kind}: {unmasked} of the {number} annotations of {self.ann_file} have no valid '
                f'mask: {shorten_list(names)}. Correct them, or load, train and evaluate boxes only '
                '(LoadAnnotations.with_mask=False, no mask_head, metric="bbox")'
            )
        self._warn(problems, UNMASKED, 'objects are ignored in training')
        self._warn(problems, (BROKEN_PART,), 'masks are incomplete')

    def _check_images_exist(self, found: FoundNames) -> None:
        if found.missing:
            remedy = advice(found, lambda folder: image_prefix(self._folder, folder, self.data_root))
            if not remedy:
                root = self.data_root or dirname(self.ann_file)
                hint = ''
                if len(found.missing) == found.number:  # else the folder is right
                    hint = folder_hint(root, self.ann_file, found.missing, self.data_root)
                remedy = (
                    f'Add them, or remove them from the file; {hint or "check data_root and data_prefix.img"}'
                )
            paths = sorted(normpath(join(self._folder, name)) for name in found.missing)
            raise FileNotFoundError(
                f'{self._kind}: {len(paths)} of {found.number} images of {self.ann_file} do not exist: '
                f'{shorten_list(paths)}. {remedy}'
            )

    def _warn(self, problems: dict[str, list[str]], kinds: tuple[str, ...], what: str) -> None:
        for kind in kinds:
            if kind in problems:
                print_log(
                    f'{self._kind}: {self.ann_file}: {len(problems[kind])} {what}, {kind}: '
                    f'{shorten_list(problems[kind])}. {REMEDY}',
                    logger='current',
                    level=logging.WARNING,
                )


@DATASETS.register_module()
class COCO(CheckedAnnotations):
    """COCO 2017 with its 80 classes, or a subset of them given by ``metainfo=dict(classes=...)``."""


@DATASETS.register_module()
class DetectionFolder(CheckedAnnotations):
    """Images with any set of categories, annotated in COCO format.

    The classes are the categories of ``classes_file``, in its order, or are given in ``metainfo.classes``.
    Use the same ``classes_file`` for training and evaluation, so that a label means the same in both.

    Args:
        classes_file: the annotation file whose categories are the classes, relative to ``data_root``.
        **kwargs: arguments of :class:`mmdet.datasets.CocoDataset`.

    Raises:
        FileNotFoundError: ``classes_file`` does not exist.
        AnnotationError: it has no valid categories.
        ValueError: the classes are given neither way or both ways.
    """

    METAINFO: dict = {}

    def __init__(
        self,
        *args,
        classes_file: str | None = None,
        metainfo: dict | None = None,
        data_root: str = '',
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        metainfo = dict(metainfo or {})
        if (classes_file is None) == ('classes' not in metainfo):
            raise ValueError(
                'DetectionFolder: give the class names exactly once, as a list in metainfo.classes or as an '
                'annotation file with these categories in classes_file'
            )
        if classes_file is not None:
            metainfo['classes'] = read_categories(join(data_root or '', classes_file), backend_args)
        super().__init__(*args, metainfo=metainfo, data_root=data_root, backend_args=backend_args, **kwargs)


def decode_annotations(raw: bytes, where: str) -> tuple[Any, list[Repair]]:
    """Return the repaired content of an annotation file, and what was repaired.

    Raises:
        AnnotationError: the file is not JSON.
    """
    try:
        return parse_annotations(raw)
    except ValueError as error:
        raise AnnotationError(f'{where} {json_problem(raw, error)}') from error


def tell_repairs(where: str, repairs: Sequence[Repair]) -> None:
    """Tell what was repaired, or refuse it in strict mode."""
    for repaired in repairs:
        repair(where, repaired.what, repaired.count)


def read_annotations(path: str, backend_args: dict | None = None) -> dict:
    """Read and repair an annotation file that exists.

    Raises:
        AnnotationError: the file is not an annotation file.
        StrictError: strict mode is set, and the file needs a repair.
    """
    content, repairs = decode_annotations(fileio.get(path, backend_args), path)
    if problem := structure_problem(content):
        raise AnnotationError(f'{path}: {problem}. {REMEDY}')
    tell_repairs(path, repairs)
    return content


def read_categories(path: str, backend_args: dict | None = None) -> tuple[str, ...]:
    """Read the category names of an annotation file, in its order.

    Raises:
        FileNotFoundError: the file does not exist.
        AnnotationError: the file is not an annotation file, or has no valid categories.
    """
    if not fileio.isfile(path, backend_args=backend_args):
        raise FileNotFoundError(f'there is no annotation file {path}: check classes_file')
    try:
        content, _ = parse_annotations(fileio.get(path, backend_args))
        names = tuple(category['name'] for category in content['categories'])
    except (ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f'{path} has no categories in COCO format ({type(error).__name__}: {error}): check classes_file'
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise AnnotationError(f'{path} has no categories whose names are strings: check classes_file')
    return names
