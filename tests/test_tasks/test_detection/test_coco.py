"""Detection data sets: their samples and error messages."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import mmdet.datasets
import numpy as np
import pytest
import torch
from detection_files import CATEGORIES, HEIGHT, WIDTH, annotation, content, crowd, write_coco, write_content
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from segmentation_files import write_image

from resformer_mm.datasets.loading import ImageReadError
from resformer_mm.registry import DATASETS, METRICS
from resformer_mm.tasks.detection import preflight
from resformer_mm.tasks.detection.coco import AnnotationError
from resformer_mm.tasks.detection.masks import run_lengths_of
from resformer_mm.tasks.detection.metric import other_image

LOADING = [dict(type='resformer_mm.LoadImage'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
CLASSES = tuple(CATEGORIES)


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmdet')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'data')


def build(root: Path, kind: str = 'COCO', with_mask: bool = True, **kwargs):
    pipeline = [LOADING[0], {**LOADING[1], 'with_mask': with_mask}, dict(type='PackDetInputs')]
    options = dict(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        pipeline=pipeline,
    )
    if 'classes_file' not in kwargs:
        options['metainfo'] = dict(classes=CLASSES)
    return DATASETS.build({'type': f'resformer_mm.{kind}', **options, **kwargs})


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is logged as a warning."""
    told = []

    def note(text: str, level: int = logging.INFO, **kwargs) -> None:
        if level == logging.WARNING:
            told.append(text)

    monkeypatch.setattr('resformer_mm.tasks.detection.coco.print_log', note)
    return told


def changed(root: Path, change) -> Path:
    """Rewrite the annotation file."""
    entries = content()
    change(entries)
    write_content(root, entries)
    return root


# What they give


def test_labels_of_ids_with_holes(root: Path, warnings) -> None:
    dataset = build(root)
    assert len(dataset) == 3 and dataset.metainfo['classes'] == CLASSES
    found = dataset[0]['data_samples'].gt_instances
    assert found.labels.tolist() == [0, 2]
    assert found.bboxes.tensor.tolist() == [[4, 5, 14, 13], [15, 2, 24, 14]]
    assert found.masks.masks.shape == (2, HEIGHT, WIDTH)
    assert found.masks.masks.sum((1, 2)).tolist() == [80, 108]
    assert len(dataset[2]['data_samples'].gt_instances) == 0
    assert not warnings


def test_crowd_regions_are_ignored_instances(root: Path) -> None:
    sample = build(root)[1]['data_samples']
    assert sample.gt_instances.labels.tolist() == [0]
    assert sample.ignored_instances.labels.tolist() == [1]
    expected = np.zeros((HEIGHT, WIDTH))
    expected[:, 2:5] = 1
    assert np.array_equal(sample.ignored_instances.masks.masks[0], expected)


def test_coco_is_that_of_mmdetection(root: Path) -> None:
    names = mmdet.datasets.CocoDataset.METAINFO['classes']

    def all_names(entries: dict) -> None:
        entries['categories'] = [dict(id=2 * number + 3, name=name) for number, name in enumerate(names)]
        entries['annotations'] = [entry | dict(category_id=7) for entry in entries['annotations']]

    changed(root, all_names)
    options = dict(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
    )
    theirs = mmdet.datasets.CocoDataset(**options)
    ours = DATASETS.build({'type': 'resformer_mm.COCO', **options})
    assert ours.metainfo == theirs.metainfo
    ours, theirs = ([dataset.get_data_info(index) for index in range(3)] for dataset in (ours, theirs))
    assert ours == theirs


def test_a_choice_of_classes(root: Path) -> None:
    dataset = build(root, metainfo=dict(classes=('cat', 'owl')))
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [0, 1]
    assert len(dataset[1]['data_samples'].ignored_instances) == 0


@pytest.mark.slow
def test_images_that_the_config_drops_are_counted(root: Path, monkeypatch) -> None:
    told = []
    monkeypatch.setattr(
        'resformer_mm.tasks.detection.coco.print_log', lambda text, **kwargs: told.append(text)
    )
    assert len(build(root, filter_cfg=dict(filter_empty_gt=False))) == 3 and not told
    assert len(build(root, filter_cfg=dict(filter_empty_gt=True, min_size=10))) == 2
    assert '1 of 3 images of' in told[0] and "filter_cfg={'filter_empty_gt': True" in told[0]
    assert len(build(root, filter_cfg=dict(filter_empty_gt=True), test_mode=True)) == 3
    with pytest.raises(AnnotationError, match='leaves none of the 3 images'):
        build(root, filter_cfg=dict(min_size=100))


def test_categories_of_a_file_are_the_classes(root: Path) -> None:
    train = dict(classes_file='annotations/instances_train2017.json')
    assert build(root, 'DetectionFolder', **train).metainfo['classes'] == CLASSES

    def reordered(entries: dict) -> None:
        entries['categories'].reverse()

    entries = content()
    reordered(entries)
    write_content(root, entries, 'val2017')
    with pytest.raises(AnnotationError, match=r"the order of its categories: \('owl', 'dog', 'cat'\)"):
        build(root, 'DetectionFolder', ann_file='annotations/instances_val2017.json', **train)


def test_names_are_given_once(root: Path) -> None:
    both = dict(metainfo=dict(classes=CLASSES), classes_file='annotations/instances_train2017.json')
    for kwargs in (dict(metainfo=None), both):
        with pytest.raises(ValueError, match='once, as a list in metainfo.classes or .* classes_file'):
            build(root, 'DetectionFolder', **kwargs)
    with pytest.raises(FileNotFoundError, match='no annotation file .*names.json.*check classes_file'):
        build(root, 'DetectionFolder', classes_file='names.json')
    for text in ('{}', 'cat', '[1]', '{"categories": []}', '{"categories": [{"name": 1}]}'):
        (root / 'names.json').write_text(text)
        with pytest.raises(AnnotationError, match='names.json .*check classes_file'):
            build(root, 'DetectionFolder', classes_file='names.json')


def coco_metric(root: Path, dataset, kind: str = 'resformer_mm.CocoMetric'):
    ann_file = root / 'annotations' / 'instances_train2017.json'
    metric = METRICS.build(dict(type=kind, ann_file=str(ann_file), metric=['bbox', 'segm']))
    metric.dataset_meta = dataset.metainfo
    return metric


def test_nothing_found_has_an_ap_of_zero(root: Path) -> None:
    """As a detection that covers no object has; mmdetection's own metric says nothing."""
    dataset = build(root, test_mode=True)

    def evaluate(kind: str, boxes: list, masks: list) -> dict:
        metric = coco_metric(root, dataset, kind)
        for index in range(len(dataset)):
            labels = torch.zeros(len(boxes), dtype=torch.long)
            predictions = dict(bboxes=torch.tensor(boxes).reshape(-1, 4), masks=masks)
            predictions.update(labels=labels, scores=labels + 1.0)
            metric.process({}, [dict(**dataset[index]['data_samples'].metainfo, pred_instances=predictions)])
        return metric.evaluate(size=len(dataset))

    elsewhere = coco_mask.encode(np.zeros((HEIGHT, WIDTH), np.uint8, order='F'))
    expected = evaluate('mmdet.CocoMetric', [[0.0, 0.0, 0.0, 0.0]], [elsewhere])
    assert expected['coco/bbox_mAP'] == 0 and len(expected) == 12
    assert evaluate('resformer_mm.CocoMetric', [], []) == expected
    assert evaluate('mmdet.CocoMetric', [], []) == {}


def test_a_folder_near_the_annotations_is_named(root: Path) -> None:
    (root / 'val2017').mkdir()
    for prefix in ('val2017', 'annotations'):
        with pytest.raises(
            FileNotFoundError, match=r"3 of the first 3 are in .*: set data_prefix=dict\(img='tr"
        ):
            build(root, data_prefix=dict(img=prefix))


def test_an_evaluator_of_another_data_set(root: Path) -> None:
    dataset = build(root, test_mode=True)
    with pytest.raises(AnnotationError, match='CocoMetric: .*no category wolf.*must be those of their data'):
        coco_metric(root, dataset).dataset_meta = dict(classes=('cat', 'wolf'))
    with pytest.raises(AnnotationError, match='no image with the id 7'):
        coco_metric(root, dataset).process({}, [dict(img_id=7)])
    with pytest.raises(AnnotationError, match=r'with the id 10 is 1.jpg, but the data set has val/1b.jpg'):
        coco_metric(root, dataset).process({}, [dict(img_id=10, img_path='val/1b.jpg')])
    assert other_image({10: dict(file_name='images\\A%20b.jpg')}, 10, '/data/a b.jpg') is None
    with pytest.raises(FileNotFoundError, match='CocoMetric: there is no annotation file nowhere.json'):
        METRICS.build(dict(type='resformer_mm.CocoMetric', ann_file='nowhere.json'))


def test_the_check_before_training_of_what_mmdetection_reads(root: Path) -> None:
    """Its own classes do not repair or compare: what they need is a fault before the first step."""

    def problems(**kwargs) -> list[str]:
        dataset = build(root, 'DetectionFolder', type='CocoDataset', **kwargs)
        found = list(preflight.annotation_problems(dataset, None, 3, True))
        for kind in ('CocoMetric', 'resformer_mm.CocoMetric'):
            metric = METRICS.build(dict(type=kind, ann_file=f'{root}/{dataset_file}'))
            found += [(kind, *problem) for problem in preflight.metric_data_problems(metric, [dataset])]
        assert all(is_fault for *_, is_fault in found)
        return [f'{kind}: {problem}' for kind, *_, problem, _ in found]

    dataset_file = 'annotations/instances_train2017.json'
    assert problems() == []
    [problem] = problems(metainfo=dict(classes=CLASSES[::-1]))
    assert 'order of the classes: ' in problem and "in the order of its categories: ('cat', 'dog'" in problem
    text = content()
    text['annotations'] = [annotation(1, 10, iscrowd=1), annotation(2, 20, iscrowd=1)]
    write_content(root, text)
    [problem] = problems()
    assert '2 of 2 objects of 3 images are crowd regions' in problem and 'crowd_as_objects=True' in problem
    for entry, number in zip(text['annotations'], 'ab'):
        entry['id'] = number
        del entry['iscrowd']
    write_content(root, text)
    [missing, ids] = problems()
    assert missing.startswith('CocoMetric: 2 annotations have no `iscrowd`') and 'ids of annotations' in ids
    write_content(root, content() | dict(images=[{**content()['images'][0], 'file_name': 'x.jpg'}]), 'other')
    dataset_file = 'annotations/instances_other.json'
    write_content(root, content())
    assert len(found := problems()) == 2 and all('id 10 is x.jpg, but' in problem for problem in found)


def test_ground_truth_as_detections_has_an_ap_of_one(root: Path) -> None:
    """Through mmdetection's metric and pycocotools: labels, boxes, masks and crowds fit the file."""
    dataset = build(root, test_mode=True)
    metric = coco_metric(root, dataset)
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        found = sample.gt_instances
        predictions = dict(
            bboxes=found.bboxes.tensor,
            labels=found.labels,
            scores=found.labels + 1.0,
            masks=[coco_mask.encode(np.asfortranarray(mask)) for mask in found.masks.masks],
        )
        metric.process({}, [dict(**sample.metainfo, pred_instances=predictions)])
    scores = metric.evaluate(size=len(dataset))
    assert scores['coco/bbox_mAP'] == scores['coco/segm_mAP'] == 1.0


def test_images_may_lie_elsewhere(root: Path) -> None:
    (root / 'train2017' / '1.jpg').rename(root / 'first.jpg')
    changed(root, lambda entries: entries['images'][0].update(file_name='../first.jpg'))
    assert len(build(root)[0]['data_samples'].gt_instances) == 2


# Mistakes that stop


def test_files_that_are_missing(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match='COCO: there is no annotation file .*x.json.: check data_r'):
        build(root, ann_file='x.json')
    with pytest.raises(FileNotFoundError, match='DetectionFolder: there is no folder .*data_prefix.img'):
        build(root, 'DetectionFolder', data_prefix=dict(img='nowhere'))
    (root / 'train2017' / '2.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 3 images .* do not exist: .*train2017/2.jpg. Add'):
        build(root)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is empty: regenerate the file'),
        ('{"images": [', 'is not valid JSON'),
        ('[]', 'it holds a list'),
        ('{}', 'its `images` is missing'),
        ('{"images": [], "categories": [{}]}', 'it lists no images'),
        ('{"images": [{}], "categories": []}', 'it lists no categories'),
        ('{"images": {}, "categories": []}', '`images` is not a list'),
        ('{"images": [3], "categories": []}', '`images` contains entries that are not objects'),
    ],
)
def test_a_file_that_is_not_an_annotation_file(root: Path, text: str, message: str) -> None:
    write_content(root, text)
    with pytest.raises(AnnotationError, match=f'instances_train2017.json.*{message}'):
        build(root)


def fault(what: str):
    """Return a change of an annotation file."""

    def change(entries: dict) -> None:
        first = entries['annotations'][0]
        if what == 'category':
            first['category_id'] = 4
        elif what == 'same image':
            entries['images'][1]['id'] = 10
        elif what == 'same name':
            entries['categories'][1]['name'] = 'cat'
        elif what == 'no size':
            entries['images'][0]['height'] = 0
        elif what == 'box':
            first['bbox'] = [1, 2, 3]
        elif what == 'not finite':
            first['bbox'] = [1, 2, float('nan'), 4]
        elif what == 'code':
            entries['annotations'][2]['segmentation']['counts'][0] += 1
        elif what == 'size of a code':
            entries['annotations'][2]['segmentation']['size'] = [WIDTH, HEIGHT]
        elif what == 'letters':
            first['segmentation'] = [[1, 2, 3, 4, 5, 'x']]
        elif what == 'no objects':
            entries['annotations'] = [crowd(1, 10)]

    return change


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ('category', r'unknown category \(1\): annotation 1 \(1.jpg\): category_id 4 does not exist'),
        ('same image', 'image 10: another image has this id'),
        ('same name', 'category named twice .1.: category cat'),
        ('no size', 'image 1.jpg: height is 0, not a number of pixels'),
        ('box', r'annotation 1 .*: bbox \[1, 2, 3\]'),
        ('not finite', 'annotation 1 .*: bbox .*nan'),
        ('code', 'annotation 3 .2.jpg.: its runs cover 601 pixels, but the image has 600'),
        ('size of a code', r'annotation 3 .2.jpg.: its size is \[30, 20\], but the image is 20 x 30'),
        ('letters', r"unsupported mask format .1.: annotation 1 .*'x'"),
        ('no objects', 'no object of the classes to learn from'),
    ],
)
def test_entries_that_would_train_wrong(root: Path, what: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        build(changed(root, fault(what)))


def test_classes_that_the_file_does_not_have(root: Path) -> None:
    with pytest.raises(AnnotationError, match='it has no category wolf, only cat, dog, owl: check metainfo'):
        build(root, metainfo=dict(classes=('cat', 'wolf')))
    with pytest.raises(AnnotationError, match=r"order of its categories: \('cat', 'owl'\)"):
        build(root, metainfo=dict(classes=('owl', 'cat')))


def test_an_image_of_another_size_than_its_annotations(root: Path) -> None:
    write_image(root / 'train2017' / '1.jpg', (HEIGHT, WIDTH), orientation=6)
    with pytest.raises(ImageReadError, match='1.jpg has 30 x 20 pixels .*annotations are for 20 x 30'):
        build(root)[0]
    path = root / 'train2017' / '2.jpg'
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageReadError, match='2.jpg .*truncated'):
        build(root)[1]


# Mistakes that are told


@pytest.mark.slow
@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (
            annotation(9, 10, box=(3, 4, 0, 6)),
            'not used, no area: annotation 9 .1.jpg.: .*less than a pixel wide',
        ),
        (annotation(9, 10, box=(3, 4, 5, -6)), 'not used, no area: annotation 9'),
        (
            annotation(9, 10, box=(3, 4, 6, 0.5)),
            'not used, no area: annotation 9 .*less than a pixel wide or high',
        ),
        (annotation(9, 10, area=0), 'not used, no area: annotation 9 .*its area is 0'),
        (annotation(9, 10, box=(30, 4, 5, 6)), 'not used, box outside the image: annotation 9'),
        (annotation(9, 10, box=(-8, 4, 8, 6)), 'not used, box outside the image: annotation 9'),
        (annotation(9, 99), 'not used, unknown image: annotation 9: image_id 99'),
        (annotation(9, 10, ignore=1), 'not used, marked as ignored: annotation 9'),
    ],
)
def test_what_is_not_used(root: Path, warnings, entry: dict, message: str) -> None:
    dataset = build(changed(root, lambda entries: entries['annotations'].append(entry)))
    # mmdetection leaves out just what is told: nothing more arrives in a sample.
    sample = dataset[0]['data_samples']
    assert len(sample.gt_instances) == 2 and len(sample.ignored_instances) == 0
    [told] = warnings
    assert told.startswith('COCO: ') and 'check_detection.py' in told
    assert re.search(f'1 annotations are {message}', told), told


def test_boxes_are_cut_and_files_repeated(root: Path, warnings) -> None:
    def change(entries: dict) -> None:
        entries['annotations'].append(annotation(9, 10, box=(25, 4, 9, 6)))
        entries['annotations'].append(annotation(10, 10, box=(25, 4, 5.5, 6)))  # rounding
        entries['images'].append(dict(entries['images'][0], id=44))

    assert len(build(changed(root, change))[0]['data_samples'].gt_instances) == 4
    assert len(warnings) == 2
    assert 'COCO: ' in warnings[0] and '1 images are used twice' in warnings[0] and '1.jpg' in warnings[0]
    assert '1 boxes are clipped to the image' in warnings[1] and 'annotation 9' in warnings[1]


@pytest.mark.slow
@pytest.mark.parametrize('segmentation', [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]]])
def test_objects_without_a_sound_mask_are_ignored(root: Path, warnings, segmentation) -> None:
    def change(entries: dict) -> None:
        entries['annotations'][0]['segmentation'] = segmentation

    sample = build(changed(root, change))[0]['data_samples']
    assert sample.gt_instances.labels.tolist() == [2] and sample.ignored_instances.labels.tolist() == [0]
    [told] = warnings
    assert '1 objects are ignored in training' in told and 'annotation 1 (1.jpg)' in told
    with pytest.raises(AnnotationError, match='1 of the 4 annotations .* no valid mask: annotation 1'):
        build(root, test_mode=True)
    warnings.clear()
    assert build(root, with_mask=False)[0]['data_samples'].gt_instances.labels.tolist() == [0, 2]
    assert not warnings


def test_an_incomplete_mask(root: Path, warnings) -> None:
    def change(entries: dict) -> None:
        entries['annotations'][0]['segmentation'].append([1, 2, 3, 4])

    assert len(build(changed(root, change))[0]['data_samples'].gt_instances) == 2
    assert '1 masks are incomplete, broken polygon among others: annotation 1' in warnings[0]


def test_data_without_masks_do_not_train_masks(root: Path) -> None:
    def change(entries: dict) -> None:
        for entry in entries['annotations']:
            del entry['segmentation']

    changed(root, change)
    with pytest.raises(AnnotationError, match='4 of the 4 annotations .*boxes only'):
        build(root)
    assert len(build(root, with_mask=False)[0]['data_samples'].gt_instances) == 2


def test_test_images_need_no_annotations(root: Path) -> None:
    changed(root, lambda entries: entries.pop('annotations'))
    assert len(build(root, test_mode=True)) == 3
    with pytest.raises(AnnotationError, match='no object of the classes to learn from'):
        build(root)


# Run-length codes


def test_compressed_codes_are_read_as_pycocotools_reads_them() -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        height, width = rng.integers(1, 90, 2)
        mask = np.asfortranarray(rng.random((height, width)) < rng.random() ** 3, np.uint8)
        if number % 3 == 0:
            mask[:] = number % 2  # long runs
        text = coco_mask.encode(mask)['counts'].decode()
        runs = run_lengths_of(text)
        code = coco_mask.frPyObjects(dict(size=[int(height), int(width)], counts=runs), height, width)
        assert np.array_equal(coco_mask.decode(code), mask) and sum(runs) == mask.size


@pytest.mark.parametrize(('text', 'message'), [('P1 3', "the invalid character ' '"), ('P', 'truncated')])
def test_invalid_run_length_codes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_lengths_of(text)
