"""Average precision where a detector may have found nothing at all."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.datasets.api_wrappers import COCO as CocoIndex
from mmdet.evaluation import CocoMetric as Metric
from mmengine import fileio

from resformer_mm.registry import METRICS

from .annotations import class_problem
from .coco import AnnotationError


class ResultIndex(CocoIndex):
    """Annotations that results are compared with, also where there are none."""

    def loadRes(self, results: list[dict]) -> CocoIndex:  # noqa: N802  pycocotools' name
        """Return the results as an index of their own."""
        if results:
            return super().loadRes(results)
        nothing = CocoIndex()
        nothing.dataset = {**self.dataset, 'annotations': []}
        nothing.createIndex()
        return nothing


@METRICS.register_module()
class CocoMetric(Metric):
    """:class:`mmdet.evaluation.CocoMetric`, which is 0 for a detector that finds nothing.

    mmdetection's gives no metric at all then: a sweep over resolutions has a gap, and the best checkpoint is
    not looked for. That the annotations are not those of the data set is told before training.

    Args:
        ann_file: annotation file; None takes the annotations of the samples.
        backend_args: file backend of MMEngine, for storage other than local files.
        **kwargs: other arguments of mmdetection's.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: its categories or images are not those of the data set; when told of the data set, or
            when evaluated.
    """

    def __init__(
        self, ann_file: str | None = None, backend_args: dict | None = None, **kwargs: object
    ) -> None:
        if ann_file is not None and not fileio.isfile(ann_file, backend_args=backend_args):
            raise FileNotFoundError(
                f'CocoMetric: there is no annotation file {ann_file}: check ann_file of val_evaluator and '
                'test_evaluator, which is that of their data sets'
            )
        super().__init__(ann_file=ann_file, backend_args=backend_args, **kwargs)
        self._ann_file = ann_file
        if self._coco_api is not None:
            index = ResultIndex()
            index.dataset = self._coco_api.dataset
            index.createIndex()
            self._coco_api = index

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
        self._dataset_meta = dataset_meta

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        if self._coco_api is not None:
            for sample in data_samples:
                if sample['img_id'] not in self._coco_api.imgs:
                    self._refuse(f'it has no image with the id {sample["img_id"]!r}')
        super().process(data_batch, data_samples)

    def _refuse(self, problem: str) -> None:
        raise AnnotationError(
            f'CocoMetric: {self._ann_file}: {problem}. ann_file of val_evaluator and test_evaluator must be '
            'that of their data sets'
        )
