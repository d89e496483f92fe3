"""Masks that are pasted, encoded and drawn one at a time."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.evaluation import CocoMetric, DumpDetResults
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from pictures import picture
from pycocotools import mask as coco_mask
from small_models import detector

from resformer_mm.apis import load_model
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.cascade import OutcomeMetric
from resformer_mm.engine.dump import DumpPredictions
from resformer_mm.tasks.detection import compact_masks
from resformer_mm.tasks.detection.compact_masks import decode_masks, encode_masks, masks_one_by_one
from resformer_mm.tasks.detection.encoded_masks import EncodedMasks, keep_encoded
from resformer_mm.tasks.detection.mask_memory import EncodedMasksHook
from resformer_mm.tasks.detection.visualizer import ObjectVisualizer

CLASSES = ('cat', 'dog', 'owl')


def objects(number: int, height: int, width: int) -> InstanceData:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [width / 2, height / 2], (number, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, [width / 3, height / 3], (number, 2))], axis=1)
    found = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32))
    found.labels = torch.arange(number) % 3
    found.scores = torch.linspace(0.9, 0.4, number)
    return found


def pasted(number: int, height: int, width: int, one_by_one: bool) -> InstanceData:
    torch.manual_seed(0)
    head = FCNMaskHead(num_convs=0, in_channels=4, conv_out_channels=4, num_classes=3)
    found = objects(number, height, width)
    meta = dict(scale_factor=(0.5, 0.5), ori_shape=(height, width), img_shape=(height // 2, width // 2))
    found.bboxes /= 2  # at the size of the network, scaled back in place
    predictions = (torch.randn(number, 3, 28, 28),)
    config = ConfigDict(mask_thr_binary=0.5)
    if one_by_one:
        with masks_one_by_one(head):
            (found,) = head.predict_by_feat(predictions, [found], [meta], config, rescale=True)
    else:
        (found,) = head.predict_by_feat(predictions, [found], [meta], config, rescale=True)
    assert '_predict_by_feat_single' not in vars(head)
    return found


@pytest.mark.parametrize('number', [0, 1, 7])
def test_masks_are_those_of_the_head(number: int) -> None:
    expected, found = pasted(number, 90, 120, False), pasted(number, 90, 120, True)
    torch.testing.assert_close(found.bboxes, expected.bboxes)
    if number:
        assert isinstance(found.masks, list) and len(found.masks) == number
        decode_masks(found, (90, 120))
    assert torch.equal(found.masks, expected.masks)


def annotations(number: int, height: int, width: int) -> dict:
    """Return a sample of objects with polygons and run lengths, of which some are compressed."""
    instances = []
    for index in range(number):
        x, y = 3 * index, 2 * index
        polygon = [x, y, x + 20, y + 3, x + 10, y + 15]
        code = coco_mask.frPyObjects([polygon], height, width)[0]
        runs = [x * height + y, 9, height * width - x * height - y - 9]
        mask = ([polygon, [0, 0, 5, 0, 5, 5]], code, dict(size=[height, width], counts=runs))[index % 3]
        instances.append(dict(bbox=[x, y, x + 20, y + 15], bbox_label=0, ignore_flag=0, mask=mask))
    return dict(instances=instances, ori_shape=(height, width), img_shape=(height, width))


def loaded(number: int, height: int, width: int, is_encoded: bool) -> BitmapMasks:
    loading = LoadAnnotations(with_bbox=True, with_mask=True)
    if is_encoded:
        keep_encoded(loading)
    return loading(annotations(number, height, width))['gt_masks']


@pytest.mark.parametrize('number', [0, 1, 7])
def test_masks_of_annotations_are_those_of_the_transform(number: int) -> None:
    expected, found = loaded(number, 60, 90, False), loaded(number, 60, 90, True)
    assert isinstance(found, EncodedMasks) and len(found) == number
    chosen = np.arange(number) % 2 == 0
    for change in (
        lambda masks: masks,
        lambda masks: masks[chosen],
        lambda masks: masks[np.flatnonzero(chosen)][:1],
        lambda masks: masks.resize((30, 40)).flip(),
        lambda masks: masks.crop(np.array([0, 0, 20, 20])),
    ):
        pixels = [change(masks).to_ndarray() for masks in (expected, found)]
        assert np.array_equal(*pixels) and pixels[0].dtype == pixels[1].dtype


def test_an_evaluation_keeps_masks_encoded_where_everything_takes_them() -> None:
    model = load_model(detector(), device='cpu')
    loading = LoadAnnotations(with_mask=True)
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[loading]))
    evaluator = SimpleNamespace(metrics=[CocoMetric(), OutcomeMetric()])
    loop = SimpleNamespace(evaluator=evaluator, dataloader=SimpleNamespace(dataset=dataset))
    hooks = [SimpleNamespace(draw=False)]
    runner = SimpleNamespace(model=model, val_loop=loop, test_loop=loop, hooks=hooks, visualizer=object())
    hook, head = EncodedMasksHook(), model.roi_head.mask_head

    def is_encoded() -> bool:
        answers = set()
        for event in ('val', 'test'):
            getattr(hook, f'before_{event}')(runner)
            answers.add('_predict_by_feat_single' in vars(head))
            getattr(hook, f'after_{event}')(runner)
            assert '_predict_by_feat_single' not in vars(head)
        (answer,) = answers
        return answer

    for metric in (DumpDetResults('b.pkl'), DumpPredictions('a.pkl')):  # whose files have arrays
        evaluator.metrics.append(metric)
        assert not is_encoded()
        evaluator.metrics.pop()
    assert type(loading(annotations(2, 60, 90))['gt_masks']) is BitmapMasks
    assert is_encoded() and isinstance(loading(annotations(2, 60, 90))['gt_masks'], EncodedMasks)
    hooks[0].draw = True  # with a visualizer that needs arrays
    assert not is_encoded()
    runner.visualizer = ObjectVisualizer(name='drawn')
    assert is_encoded()


def test_memory_is_that_of_one_mask(monkeypatch) -> None:
    monkeypatch.setattr(compact_masks, 'MOST_PIXELS', 2**22)
    tracemalloc.start()
    found = pasted(40, 1500, 2000, True)
    assert len(loaded(40, 1500, 2000, True)[:20]) == 20
    drawn = ObjectVisualizer(name='objects').draw_objects(
        np.zeros((1500, 2000, 3), np.uint8), found, CLASSES, None
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn.any() and peak < 10 * 1500 * 2000  # 40 masks are four times as much


def test_encoding_and_decoding_are_inverse() -> None:
    found = objects(3, 60, 80)
    masks = torch.rand(3, 60, 80) > 0.5
    found.masks = masks
    encode_masks(found)
    assert [
        np.array_equal(coco_mask.decode(code), mask) for code, mask in zip(found.masks, masks.numpy())
    ] == [True] * 3
    found = found[found.scores > 0.5]
    decode_masks(found, (60, 80))
    assert torch.equal(found.masks, masks[:2])


def test_all_kinds_of_masks_are_drawn_alike() -> None:
    image = picture(0, 80, 60)[..., ::-1]
    masks = torch.zeros(3, 60, 80, dtype=torch.bool)
    for number in range(3):
        masks[number, 10 * number : 10 * number + 20, 5:60] = True
    drawn = []
    for kind in (masks, masks.numpy(), BitmapMasks(masks.numpy().astype(np.uint8), 60, 80)):
        found = objects(3, 60, 80)
        found.masks = kind
        drawn.append(ObjectVisualizer(name='objects').draw_objects(image, found, CLASSES, None))
        if kind is masks:
            encode_masks(found)
            drawn.append(ObjectVisualizer(name='objects').draw_objects(image, found, CLASSES, None))
    assert all(np.array_equal(drawn[0], other) for other in drawn[1:]) and (drawn[0] != image).any()


def test_data_samples_of_an_inferencer_have_arrays() -> None:
    made = make_inferencer(detector(), None, 'cpu')
    (sample,) = made(picture(), score_thr=0, return_datasamples=True)['predictions']
    (prediction,) = made(picture(), score_thr=0)['predictions']
    assert sample.pred_instances.masks.dtype == torch.bool
    for mask, code in zip(sample.pred_instances.masks, prediction['masks'], strict=True):
        assert np.array_equal(coco_mask.decode(code), mask.numpy())
