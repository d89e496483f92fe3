"""What the check before training knows about objects, losses and metrics of detection."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mmdet.evaluation
import numpy as np
import pytest
import torch
from detection_files import CATEGORIES, HEIGHT, WIDTH, annotation, content, crowd, write_content
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from segmentation_files import write_image

from resformer_mm.apis import DataError, build_test_loop
from resformer_mm.registry import DATASETS
from resformer_mm.tasks.detection import preflight as known
from resformer_mm.tasks.detection.metric import CocoMetric

CLASSES = tuple(CATEGORIES)
FILE = 'annotations/instances_train2017.json'


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmdet')


def data_of(root: Path, annotations: list[dict]):
    """Return a data set of mmdetection with these annotations."""
    images = content()['images']
    for image in images:
        write_image(root / 'train2017' / image['file_name'], (HEIGHT, WIDTH))
    write_content(root, {**content(), 'annotations': annotations})
    return DATASETS.build(
        dict(
            type='mmdet.CocoDataset',
            data_root=str(root),
            ann_file=FILE,
            data_prefix=dict(img='train2017'),
            metainfo=dict(classes=CLASSES),
        )
    )


@pytest.mark.parametrize(('num_crowds', 'told'), [(0, False), (1, False), (3, True), (4, True)])
def test_the_share_of_crowd_regions(tmp_path: Path, num_crowds: int, told: bool) -> None:
    """Of 4 of 4, no object is learned."""
    objects = [crowd(n, 10) if n <= num_crowds else annotation(n, 10) for n in range(1, 5)]
    dataset = data_of(tmp_path, objects)
    found = list(known.annotation_problems(dataset, None, 3, is_training=True))
    assert len(found) == told
    if told:
        [(kind, problem, is_fault)] = found
        assert kind == known.CROWD and is_fault == (num_crowds == 4)
        assert problem.startswith(f'{num_crowds} of 4 objects of 3 images are crowd regions (iscrowd 1)')
    compared = list(known.annotation_problems(dataset, None, 3, is_training=False))
    assert [kind for kind, _, _ in compared] == [known.NO_OBJECTS] * (num_crowds == 4)


def test_labels_that_are_learned(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, [annotation(1, 10, 8), annotation(2, 10, 3), crowd(3, 10, 7)])
    assert known.labels(dataset.get_data_info(0)) == [2, 0]


@pytest.mark.parametrize(
    ('name', 'sigmoid', 'expected'),
    [('loss_cls', True, (3,)), ('loss_cls', False, (4,)), ('loss_mask', True, ())],
)
def test_numbers_of_class_weights(name: str, sigmoid: bool, expected: tuple) -> None:
    assert known.class_weights(SimpleNamespace(use_sigmoid=sigmoid), name, None, 3) == expected


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (CocoMetric, dict(metric=['bbox', 'segm'])),
        (CocoMetric, dict(metric=['bbox', 'segm'], classwise=True, prefix='a')),
        (mmdet.evaluation.CocoMetric, dict(metric='bbox', metric_items=['mAP_50', 'AR@100'])),
        (mmdet.evaluation.CocoMetric, dict(metric=['proposal', 'bbox'], classwise=True)),
        (mmdet.evaluation.CocoMetric, dict(metric='proposal_fast', proposal_nums=(1, 10, 100))),
        (mmdet.evaluation.VOCMetric, dict()),
        (mmdet.evaluation.VOCMetric, dict(iou_thrs=[0.5, 0.75])),
        (mmdet.evaluation.VOCMetric, dict(metric='recall', proposal_nums=(1, 10), iou_thrs=[0.5, 0.75])),
    ],
    ids=str,
)
def test_names_are_those_of_an_evaluation(tmp_path: Path, kind: type, options: dict) -> None:
    dataset = data_of(tmp_path, [annotation(1, 10), annotation(2, 20, 8), annotation(3, 30)])
    if kind is not mmdet.evaluation.VOCMetric:
        options = dict(options, ann_file=str(tmp_path / FILE))
    metric = kind(**options)
    metric.dataset_meta = dataset.metainfo
    names = known.metric_names(metric, 3, None)
    boxes = torch.tensor([[4.0, 5.0, 14.0, 13.0]])
    mask = coco_mask.encode(np.ones((HEIGHT, WIDTH), np.uint8, order='F'))
    objects = dict(bboxes=boxes, labels=torch.zeros(1, dtype=torch.long))
    found = dict(objects, scores=torch.ones(1), masks=[mask])
    nothing = dict(bboxes=boxes[:0], labels=objects['labels'][:0])
    truth = dict(gt_instances=objects, ignored_instances=nothing)
    for image in (10, 20, 30):
        metric.process({}, [dict(truth, img_id=image, ori_shape=(HEIGHT, WIDTH), pred_instances=found)])
    assert {f'{metric.prefix}/{name}' for name in names} == set(metric.evaluate(size=3))


def test_names_that_are_not_known(tmp_path: Path) -> None:
    data_of(tmp_path, [])
    metric = CocoMetric(ann_file=str(tmp_path / FILE), format_only=True, outfile_prefix=str(tmp_path))
    assert known.metric_names(metric, 3, None) == []
    assert known.metric_names(mmdet.evaluation.OpenImagesMetric(), 3, None) is None


def test_a_test_stops_before_predictions_that_the_metric_cannot_judge(tmp_path: Path) -> None:
    entries = content()['annotations']
    del entries[1]['iscrowd']
    file = write_content(tmp_path, {**content(), 'annotations': entries})
    metric = mmdet.evaluation.CocoMetric(str(file))
    loop = SimpleNamespace(
        dataloader=SimpleNamespace(dataset=object()), evaluator=SimpleNamespace(metrics=[metric])
    )
    cfg = Config(dict(default_scope='mmdet', model=dict(type='mmdet.FasterRCNN')))
    with pytest.raises(
        DataError, match='test_evaluator.ann_file: 1 annotations have no `iscrowd`: set type='
    ):
        build_test_loop(SimpleNamespace(cfg=cfg, test_loop=loop))
