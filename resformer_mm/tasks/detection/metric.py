"""COCO metric that also works if a detector finds nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.datasets.api_wrappers import COCO as CocoIndex
from mmdet.evaluation import CocoMetric as Metric
from mmengine import fileio

from resformer_mm.registry import METRICS

from .annotations import class_problem
from .coco import AnnotationError, CheckedIndex, read_annotations
from .file_names import base_name
from .repairing import take_crowds_as_objects


class ResultIndex(CheckedIndex):
    """Index of annotations that accepts an empty list of results."""

    def loadRes(self, results: list[dict]) -> CocoIndex:  # noqa: N802  pycocotools' name
        """Return a new index of the results."""
        if results:
            return super().loadRes(results)
        return CheckedIndex({**self.dataset, 'annotations': []})


@METRICS.register_module()
class CocoMetric(Metric):
    """:class:`mmdet.evaluation.CocoMetric` that is 0 for a detector that finds nothing.

    In that case mmdetection's metric returns no value, which leaves a gap in a sweep over resolutions and
    prevents the best checkpoint from being saved. This class also checks the annotation file against the data
    set, and reports different classes before training.

    Args:
        ann_file: annotation file, repaired as the data sets do; None uses the annotations of the samples.
        backend_args: file backend of MMEngine, for storage other than local files.
        sort_categories: sort the categories by id, for Objects365.
        **kwargs: other arguments of :class:`mmdet.evaluation.CocoMetric`.

    Raises:
        FileNotFoundError: the annotation file does not exist.
        AnnotationError: its categories or images differ from those of the data set. Raised when
            ``dataset_meta`` is set, or during evaluation.
    """

    _coco_api: CocoIndex | None
    _dataset_meta: dict | None

    def __init__(
        self,
        ann_file: str | None = None,
        backend_args: dict | None = None,
        sort_categories: bool = False,
        **kwargs: object,
    ) -> None:
        if ann_file is not None and not fileio.isfile(ann_file, backend_args=backend_args):
            raise FileNotFoundError(
                f'CocoMetric: there is no annotation file {ann_file}: val_evaluator.ann_file and '
                'test_evaluator.ann_file must be those of their data sets'
            )
        super().__init__(backend_args=backend_args, **kwargs)
        self._ann_file = ann_file
        if ann_file is not None:
            content = read_annotations(ann_file, backend_args)
            if sort_categories:
                content['categories'].sort(key=lambda category: category['id'])
            self._coco_api = ResultIndex(content)

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set, with its ``classes``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        if self._coco_api is not None:
            names = [category['name'] for category in self._coco_api.dataset['categories']]
            if (problem := class_problem((dataset_meta or {}).get('classes', ()), names)) is not None:
                self._refuse(problem)
            if (dataset_meta or {}).get('crowd_as_objects'):
                take_crowds_as_objects(self._coco_api.dataset)
        self._dataset_meta = dataset_meta

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        if self._coco_api is not None:
            for sample in data_samples:
                problem = other_image(self._coco_api.imgs, sample['img_id'], sample.get('img_path'))
                if problem is not None:
                    self._refuse(problem)
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the metrics of the collected predictions, by name."""
        if self._coco_api is not None:
            for truth, _ in results:
                image = self._coco_api.imgs[truth['img_id']]
                # Needed for masks, and read from the files where the annotation file lacks them.
                for side in ('height', 'width'):
                    if image.get(side) is None:
                        image[side] = truth[side]
        return super().compute_metrics(results)

    def _refuse(self, problem: str) -> None:
        raise AnnotationError(
            f'CocoMetric: {self._ann_file}: {problem}. val_evaluator.ann_file and test_evaluator.ann_file '
            'must be those of their data sets'
        )


def other_image(images: Mapping, image_id: Any, path: str | None) -> str | None:
    """Return why an image is not the one of its id in an annotation file; None if it is.

    Args:
        images: images of the annotation file by id.
        image_id: id of the image in the data set.
        path: its file, if it is known.
    """
    if image_id not in images:
        return f'it has no image with the id {image_id!r}'
    name = images[image_id].get('file_name')
    if not isinstance(name, str) or path is None or base_name(name) == base_name(path):
        return None
    return f'its image with the id {image_id!r} is {name}, but the data set has {path}'
