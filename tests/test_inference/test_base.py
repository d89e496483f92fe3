"""What an inferencer reads when it is made, and the inferencer of a task of another package."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from small_models import classifier, detector, recognizer, save_checkpoint, segmentor

from resformer_mm import libraries
from resformer_mm.apis.cascade_inferencer import CascadeInferencer
from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.inference.base import ResolutionInferencer


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Count how often config files are read, whole configs copied, and checkpoint files opened."""
    counts: Counter = Counter()

    def count(owner: object, name: str, wrap: Callable = lambda function: function) -> None:
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrap(counted))

    count(Config, 'fromfile', staticmethod)
    count(Config, '__deepcopy__')
    count(torch, 'load')
    return counts


@pytest.mark.parametrize(
    'make',
    [
        classifier,
        pytest.param(segmentor, marks=pytest.mark.operators('mmseg')),
        pytest.param(detector, marks=pytest.mark.operators('mmdet')),
        pytest.param(recognizer, marks=pytest.mark.operators('mmaction')),
    ],
)
def test_config_and_checkpoint_are_read_once(make, tmp_path, reads) -> None:
    checkpoint = save_checkpoint(make(), tmp_path / 'w.pth')
    make().dump(tmp_path / 'config.py')
    reads.clear()
    make_inferencer(tmp_path / 'config.py', checkpoint, 'cpu')
    assert reads == {'fromfile': 1, '__deepcopy__': 1, 'load': 1}


def test_a_cascade_reads_its_files_once(tmp_path, reads) -> None:
    checkpoint = save_checkpoint(classifier(), tmp_path / 'w.pth')
    classifier().dump(tmp_path / 'config.py')
    reads.clear()
    rule = {'cascade': dict(resolutions=[32, 64], thresholds=[0.5])}
    CascadeInferencer(tmp_path / 'config.py', checkpoint, 'cpu', rule)
    assert reads == {'fromfile': 1, '__deepcopy__': 1, 'load': 1}


def test_the_config_of_the_caller_stays_unchanged() -> None:
    cfg = classifier()
    before = copy.deepcopy(cfg.to_dict())
    made = make_inferencer(config=cfg, checkpoint=None, device='cpu', cfg_options={'model.head.topk': (1, 2)})
    made.cfg.model.head.num_classes = 99
    assert cfg.to_dict() == before


# A task of another package


class DepthInferencer(ResolutionInferencer):
    """Predict the depth of every pixel in metres."""

    output = 'pred_depth_map'

    def to_dict(self, sample: BaseDataElement) -> dict:
        """Return the depth map in centimetres."""
        return {'depth': (100 * sample.pred_depth_map.data[0].relu()).cpu().numpy().astype(np.uint16)}

    def draw(self, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return the depth as grey values."""
        depth = self.to_dict(sample)['depth']
        return np.repeat((255.0 * depth / depth.max()).astype(np.uint8)[..., None], 3, axis=2)

    def entries(self, prediction: dict) -> list[tuple[str, float]]:
        """Return the farthest depth."""
        return [('farthest', prediction['depth'].max() / 100)]


def depth_estimator() -> Config:
    """Return the config of a depth estimator of mmseg on 64 pixels of the short side."""
    cfg = segmentor(num_classes=1)
    cfg.model.type = 'DepthEstimator'
    cfg.test_dataloader.dataset.metainfo.classes = ['kitchen', 'study']  # scenes, as in NYU
    return cfg


@pytest.fixture
def depth_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The depth task, registered for one test."""
    monkeypatch.setattr(libraries, 'TASKS', dict(libraries.TASKS))
    reference = f'{__name__}:DepthInferencer'
    task = libraries.Task(model='mmseg.DepthEstimator', inferencer=reference, is_dense=True)
    libraries.register_task('depth', task)


@pytest.mark.operators('mmseg')
def test_a_task_of_another_package_brings_its_inferencer(depth_task, tmp_path) -> None:
    torch.manual_seed(0)
    checkpoint = save_checkpoint(depth_estimator(), tmp_path / 'w.pth', std=None)
    made = make_inferencer(depth_estimator(), checkpoint, 'cpu')
    assert type(made).__name__ == 'DepthInferencer'
    picture = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    for resolution in (None, 32):
        result = made([picture, picture], resolution=resolution, batch_size=2, out_dir=tmp_path / 'out')
        prediction = result['predictions'][1]
        assert len(np.unique(prediction['depth'])) > 5
        assert prediction['resolution'] == (resolution or 64) and prediction['depth'].shape == (100, 150)
        (sample,) = made(picture, resolution=resolution, return_datasamples=True)['predictions']
        expected = 100 * np.maximum(sample.pred_depth_map.data[0].numpy(), 0)
        np.testing.assert_allclose(prediction['depth'], expected, atol=1.01)
        stored = cv2.imread(str(tmp_path / 'out' / 'pred' / '000001.png'), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, prediction['depth'])
        assert made.describe(prediction) == f'farthest {prediction["depth"].max() / 100:.3f}'


@pytest.mark.operators('mmseg', 'mmdet')
def test_a_model_of_another_task_is_refused(monkeypatch) -> None:
    from resformer_mm.tasks.detection.inferencer import DetectionInferencer
    from resformer_mm.tasks.segmentation.inferencer import SegmentationInferencer

    with pytest.raises(ValueError, match='DepthEstimator does not predict `pred_sem_seg`.*register_task'):
        make_inferencer(depth_estimator(), None, 'cpu')
    with pytest.raises(ValueError, match='DepthEstimator does not predict `pred_sem_seg`'):
        SegmentationInferencer(depth_estimator(), None, 'cpu')
    monkeypatch.setattr(DetectionInferencer, 'default_visualizer', 'Visualizer')
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match='EncoderDecoder does not predict `pred_instances`'):
        DetectionInferencer(segmentor(), None, 'cpu')(picture)
