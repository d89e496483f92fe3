"""The visualizers of this package, as the hooks of the libraries call them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import LocalVisBackend

from resformer_mm import libraries
from resformer_mm.registry import VISUALIZERS

NAMES = ['cost $5 to $9', r'$\frac$', '\u72d7' * 3]
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def visualizer(name: str, folder: Path | None = None):
    kind = VISUALIZERS.get(f'resformer_mm.{name}')
    made = kind(name=f'{name}{folder}', vis_backends=None)
    made.dataset_meta = dict(classes=NAMES, palette=PALETTE)
    made.start_pictures('data')
    if folder is not None:
        made._vis_backends = {'local': LocalVisBackend(str(folder))}
    return made


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def image() -> np.ndarray:
    return np.full((60, 80, 3), 100, np.uint8)


def test_classes(tmp_path: Path) -> None:
    from mmpretrain.structures import DataSample

    drawing = visualizer('ClassVisualizer')
    for folder in 'ab':
        sample = DataSample(metainfo=dict(img_path=f'data/{folder}/x.jpg')).set_gt_label(1).set_pred_label(0)
        drawn = drawing.visualize_cls(
            image=image(), data_sample=sample, name='x.jpg', step=0, out_file=str(tmp_path / 'x.jpg_0.png')
        )
        assert (drawn != 100).any()
    assert files(tmp_path) == ['a__x.jpg_0.png', 'b__x.jpg_0.png']


@pytest.mark.operators('mmseg')
def test_label_maps(tmp_path: Path) -> None:
    from mmseg.structures import SegDataSample

    drawing = visualizer('LabelMapVisualizer', tmp_path)
    labels = PixelData(data=torch.arange(3).repeat_interleave(20)[None, :, None].expand(1, 60, 80))
    for folder in 'ab':
        sample = SegDataSample(metainfo=dict(img_path=f'data/{folder}/x.jpg'), pred_sem_seg=labels)
        drawing.add_datasample('test_x.jpg', image(), data_sample=sample, step=1)
    assert [Path(file).name for file in files(tmp_path)] == ['test_a__x.jpg_1.png', 'test_b__x.jpg_1.png']


@pytest.mark.operators('mmdet')
def test_objects(tmp_path: Path) -> None:
    from mmdet.structures import DetDataSample

    drawing = visualizer('ObjectVisualizer')
    found = InstanceData(
        bboxes=torch.tensor([[5.0, 5, 60, 50]]), labels=torch.tensor([2]), scores=torch.ones(1)
    )
    for folder in 'ab':
        sample = DetDataSample(metainfo=dict(img_path=f'data/{folder}/x.jpg'), pred_instances=found)
        out = str(tmp_path / 'x.jpg')
        drawing.add_datasample(
            'test_img', image(), data_sample=sample, pred_score_thr=0.3, out_file=out, step=1
        )
    assert files(tmp_path) == ['a__x.jpg', 'b__x.jpg']


def test_clips(tmp_path: Path) -> None:
    from mmaction.structures import ActionDataSample

    drawing = visualizer('RecognitionVisualizer')
    for folder in 'ab':
        sample = ActionDataSample(metainfo=dict(filename=f'data/{folder}/x.mp4'))
        out = str(tmp_path / 'x.mp4_0')
        drawing.add_datasample(
            'x.mp4', video=np.stack([image()] * 2), data_sample=sample, step=0, out_path=out
        )
    written = files(tmp_path)
    assert len(written) == 4 and sum('a__x' in name for name in written) == 2


@pytest.mark.parametrize(
    ('kind', 'expected'),
    [
        ('SegLocalVisualizer', 'resformer_mm.LabelMapVisualizer'),
        ('mmdet.DetLocalVisualizer', 'resformer_mm.ObjectVisualizer'),
        ('mmpretrain.visualization.UniversalVisualizer', 'resformer_mm.ClassVisualizer'),
        ('mine.SegLocalVisualizer', None),
        ('TensorboardVisualizer', None),
    ],
)
def test_only_visualizers_of_the_libraries_are_replaced(kind: str, expected: str | None) -> None:
    assert libraries.drawing_type(Config(dict(visualizer=dict(type=kind))).visualizer) == expected


def test_a_class_of_another_package_is_kept() -> None:
    from mmpretrain.visualization import UniversalVisualizer

    own = type('UniversalVisualizer', (UniversalVisualizer,), {})
    assert libraries.drawing_type(dict(type=own)) is None
    assert libraries.drawing_type(dict(type=UniversalVisualizer)) == 'resformer_mm.ClassVisualizer'
    assert libraries.drawing_type({}) is None
