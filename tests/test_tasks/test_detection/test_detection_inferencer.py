"""Detection inferencer: objects are those of the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pictures import HEIGHT, WIDTH, drawn_over, picture, tensor_at, write_pictures
from pycocotools import mask as coco_mask
from small_models import PATCH, detector, save_checkpoint

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.tasks.detection.inferencer import DetectionInferencer


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, and a file that is not one."""
    return write_pictures(tmp_path_factory.mktemp('pictures'))


@pytest.fixture(scope='module')
def finder(tmp_path_factory: pytest.TempPathFactory) -> DetectionInferencer:
    checkpoint = save_checkpoint(detector(), tmp_path_factory.mktemp('det') / 'w.pth', std=None)
    made = make_inferencer(detector(), checkpoint, 'cpu')
    assert type(made) is DetectionInferencer
    return made


@pytest.mark.parametrize('resolution', [None, 96])
def test_objects_are_those_of_the_model(finder, resolution) -> None:
    image = picture()
    (prediction,) = finder(image, resolution=resolution, score_thr=0)['predictions']
    tensor = tensor_at(image, resolution or 64)
    height, width = tensor.shape[-2:]
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(HEIGHT, WIDTH)))
    sample.set_metainfo(dict(scale_factor=(width / WIDTH, height / HEIGHT)))
    sample.set_metainfo(dict(batch_input_shape=[-(-side // PATCH) * PATCH for side in (height, width)]))
    bottom, right = (-side % PATCH for side in (height, width))
    with torch.no_grad():
        expected = finder.model.predict(F.pad(tensor, (0, right, 0, bottom)), [sample])[0].pred_instances
    assert len(prediction['scores']) == len(expected) > 1
    np.testing.assert_allclose(prediction['bboxes'], expected.bboxes, atol=1e-2)
    np.testing.assert_allclose(prediction['scores'], expected.scores, atol=1e-4)
    assert prediction['labels'] == expected.labels.tolist()
    assert prediction['classes'] == [('cat', 'dog', 'owl')[label] for label in prediction['labels']]
    assert prediction['scores'] == sorted(prediction['scores'], reverse=True)
    for code, mask in zip(prediction['masks'], expected.masks, strict=True):
        assert code['size'] == [HEIGHT, WIDTH]
        assert (coco_mask.decode(code).astype(bool) == mask.numpy()).mean() > 0.999
    json.dumps(prediction)


def test_the_score_threshold_lists_and_draws(finder) -> None:
    image = picture()
    every = finder(image, score_thr=0)['predictions'][0]
    gaps = -np.diff(every['scores'])
    number = int(gaps.argmax()) + 1
    threshold = (every['scores'][number - 1] + every['scores'][number]) / 2
    result = finder(image, score_thr=threshold, return_vis=True)
    assert result['predictions'][0]['scores'] == every['scores'][:number]
    assert not np.array_equal(result['visualization'][0], image[..., ::-1])
    nothing = finder(image, score_thr=1.0, return_vis=True)
    assert nothing['predictions'][0]['bboxes'] == [] and nothing['predictions'][0]['masks'] == []
    assert not drawn_over(nothing['visualization'][0], image[..., ::-1], 1, passes=4).any()
    assert finder.describe(nothing['predictions'][0]) == 'nothing'


def test_detection_in_a_folder_and_in_batches(finder, folder, tmp_path) -> None:
    result = finder(folder, out_dir=tmp_path, batch_size=2, score_thr=0)
    assert [Path(entry['path']).name for entry in result['skipped']] == ['bad.png']
    for seed, prediction in enumerate(result['predictions']):
        (single,) = finder(picture(seed), score_thr=0)['predictions']
        np.testing.assert_allclose(prediction['bboxes'], single['bboxes'], atol=1e-2)
    assert sorted(path.name for path in (tmp_path / 'vis').iterdir()) == ['0.png', '1.png', '2.png']
    written = json.loads((tmp_path / 'predictions.json').read_text())
    assert written['predictions'] == result['predictions']
    sizes = finder([picture(0), picture(1, 100, 150)], batch_size=2)  # padded together
    assert len(sizes['predictions']) == 2


def test_objects_in_a_few_words(finder) -> None:
    labels = torch.tensor([1, 1, 0, 1, 1, 1, 2])
    found = InstanceData(bboxes=torch.rand(7, 4), scores=torch.linspace(0.9, 0.3, 7), labels=labels)
    prediction = finder.to_dict(DetDataSample(pred_instances=found))
    assert finder.headline(prediction) == '5 dog, 1 cat, 1 owl'
    description = finder.describe(prediction)
    assert description.startswith('dog 0.900, dog 0.800, cat 0.700') and description.endswith('and 2 more')


def test_class_names_of_another_number_are_refused() -> None:
    cfg = detector()
    del cfg.test_dataloader.dataset['metainfo']  # leaves the 80 of COCO
    with pytest.raises(ValueError, match='the model has 3 classes, but .* names 80'):
        make_inferencer(cfg, None, 'cpu')


def test_a_resolution_below_one_patch_is_refused(finder) -> None:
    with pytest.raises(ValueError, match='12 pixels is below one patch of 16 x 16'):
        finder(picture(), resolution=12)
