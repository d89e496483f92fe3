"""Average precision where a detector may have found nothing at all."""

from __future__ import annotations

from mmdet.datasets.api_wrappers import COCO as CocoIndex
from mmdet.evaluation import CocoMetric as Metric

from resformer_mm.registry import METRICS


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
    not looked for.

    Args:
        **kwargs: arguments of mmdetection's.

    Raises:
        FileNotFoundError: there is no file ``ann_file``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if self._coco_api is not None:
            index = ResultIndex()
            index.dataset = self._coco_api.dataset
            index.createIndex()
            self._coco_api = index
