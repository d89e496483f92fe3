"""Detection data sets in COCO format, with input validation."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable
from os.path import join, normpath
from typing import Any

import mmdet.datasets
from mmdet.datasets.api_wrappers import COCO as CocoIndex
from mmengine import fileio
from mmengine.logging import print_log

from resformer_mm.registry import DATASETS
from resformer_mm.text import shorten_list

from .annotations import BEYOND, FATAL, SAME_FILE, UNUSED, class_problem, find_problems
from .masks import BROKEN_PART, UNMASKED

REMEDY = 'tools/dataset_converters/check_detection.py lists all of them'


class AnnotationError(ValueError):
    """An annotation file that cannot be used. The message names the file and a remedy."""


class CheckedIndex(CocoIndex):
    """The pycocotools index of an annotation file, with a check before indexing.

    Args:
        path: the file.
        check: called with the content of the file.
    """

    def __init__(self, path: str, check: Callable[[Any], None]) -> None:
        self._check = check
        super().__init__(path)

    def createIndex(self) -> None:  # noqa: N802  pycocotools' name
        """Check, then index."""
        self._check(self.dataset)
        super().createIndex()


class CheckedAnnotations(mmdet.datasets.CocoDataset):
    """A COCO data set of mmdetection with input validation.

    A warning counts and lists annotations and images that are not used. Crowd regions are ignored in
    training, and so are objects with a missing or broken mask if masks are loaded. Ignored means that they
    are neither learned nor counted as background, if the detector's assigners are configured for it
    (``ignore_iof_thr``).

    Raises:
        FileNotFoundError: the annotation file, the folder or an image does not exist.
        AnnotationError: the file is invalid, its categories do not match ``metainfo.classes`` or their order,
            or it has no object to learn from.
    """

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``img_path``, ``height``, ``width`` and ``instances`` per image."""
        folder = self.data_prefix.get('img') or self.data_root
        if not self.ann_file or not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{self._kind}: there is no annotation file {self.ann_file!r}: check data_root and ann_file'
            )
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{self._kind}: there is no folder {folder}: check data_root and data_prefix.img'
            )
        data_list = super().load_data_list()
        self._check_images_exist(data_list, folder)
        instances = [instance for info in data_list for instance in info['instances']]
        if not self.test_mode and all(instance['ignore_flag'] for instance in instances):
            raise AnnotationError(
                f'{self._kind}: {self.ann_file} has no object of the classes to learn from: check '
                'ann_file and metainfo.classes'
            )
        for instance in instances:
            # mmdetection fails to load objects without a mask, but ignores those with an empty one.
            instance.setdefault('mask', [])
        return data_list

    def COCOAPI(self, path: str) -> CheckedIndex:  # noqa: N802  mmdetection's name
        """Read and check the annotation file, from a local copy if it is on remote storage."""
        try:
            return CheckedIndex(path, self._check_content)
        except AnnotationError:
            raise
        except (ValueError, AssertionError) as error:
            reason = error if fileio.get(path).strip() else 'it is empty'
            raise AnnotationError(
                f'{self._kind}: {self.ann_file} is not valid JSON ({reason}): regenerate the file'
            ) from error

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
                f'of {self.ann_file}'
            )
        return kept

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

    def _check_images_exist(self, data_list: list[dict], folder: str) -> None:
        """Check that the files of all images exist. The folder is listed only once."""
        listed = fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args
        )
        existing = {normpath(join(folder, name)) for name in listed}
        missing = sorted({normpath(info['img_path']) for info in data_list} - existing)
        # A file name may point outside the folder.
        missing = [path for path in missing if not fileio.isfile(path, backend_args=self.backend_args)]
        if missing:
            raise FileNotFoundError(
                f'{self._kind}: {len(missing)} of {len(data_list)} images of {self.ann_file} do not exist: '
                f'{shorten_list(missing)}. Add them, or remove them from the file; check data_root and '
                'data_prefix.img'
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


def read_categories(path: str, backend_args: dict | None = None) -> tuple[str, ...]:
    """Read the category names of an annotation file, in its order.

    Raises:
        FileNotFoundError: the file does not exist.
        AnnotationError: the file is not an annotation file, or has no valid categories.
    """
    if not fileio.isfile(path, backend_args=backend_args):
        raise FileNotFoundError(f'there is no annotation file {path}: check classes_file')
    try:
        names = tuple(
            category['name'] for category in json.loads(fileio.get(path, backend_args))['categories']
        )
    except (ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f'{path} has no categories in COCO format ({type(error).__name__}: {error}): check classes_file'
        ) from error
    if not names or not all(isinstance(name, str) for name in names):
        raise AnnotationError(f'{path} has no categories whose names are strings: check classes_file')
    return names
