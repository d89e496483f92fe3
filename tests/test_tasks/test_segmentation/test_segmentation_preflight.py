"""What the check before training knows about masks, losses and metrics of segmentation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.evaluation import CityscapesMetric, IoUMetric
from mmseg.models.decode_heads import SideAdapterCLIPHead
from segmentation_files import write_image, write_mask

from resformer_mm.registry import DATASETS, TRANSFORMS
from resformer_mm.tasks.segmentation import preflight as known

HEAD = SimpleNamespace(ignore_index=255)


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmseg')


def data_of(root: Path, *masks: np.ndarray, num_classes: int = 3, kind: str = 'LoadAnnotations', **options):
    """Return a data set of mmsegmentation with these masks."""
    for index, mask in enumerate(masks):
        write_image(root / 'images' / f'{index}.png', mask.shape)
        write_mask(root / 'masks' / f'{index}.png', mask.astype(np.uint8))
    return DATASETS.build(
        dict(
            type='mmseg.BaseSegDataset',
            data_root=str(root),
            img_suffix='.png',
            data_prefix=dict(img_path='images', seg_map_path='masks'),
            metainfo=dict(classes=['sky', 'road', 'tree'][:num_classes]),
            pipeline=[dict(type='LoadImageFromFile'), dict(type=kind), dict(type='PackSegInputs')],
            **options,
        )
    )


def problems(dataset, num_classes=3, is_training=True, head=HEAD) -> dict[str, tuple[str, bool]]:
    found = known.annotation_problems(dataset, head, num_classes, is_training)
    return {kind: (problem, is_fault) for kind, problem, is_fault in found}


def test_an_evaluation_that_resizes_label_maps(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.resize([0, 1, 2], (8, 12)))
    resize = TRANSFORMS.build(dict(type='Resize', scale=(6, 4)))
    load, label, pack = dataset.pipeline.transforms
    dataset.pipeline.transforms = [load, label, resize, pack]
    [(kind, (problem, is_fault))] = problems(dataset, is_training=False).items()
    assert kind == known.RESIZED and not is_fault
    assert 'the label map 4 x 6, but' in problem and 'of the file, 8 x 12' in problem
    assert problems(dataset) == {}  # a training
    dataset.pipeline.transforms = [load, resize, label, pack]  # as it says
    assert problems(dataset, is_training=False) == {}


def test_sound_masks(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.array([[0, 1], [2, 255]]), np.array([[1, 1], [1, 1]]))
    assert problems(dataset) == problems(dataset, is_training=False) == {}


def test_values_that_are_no_class(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.array([[0, 1], [2, 11]]))
    [(problem, is_fault)] = problems(dataset).values()
    assert 'the values 11 after loading' in problem and '0 to 2' in problem and is_fault
    assert problems(dataset, head=SimpleNamespace(ignore_index=11)) == {}


def test_an_object_that_is_ignored(tmp_path: Path) -> None:
    """Masks of 0 and 255, with which the second class is never learned."""
    dataset = data_of(tmp_path, np.array([[0, 255], [255, 255]]), num_classes=2)
    found = problems(dataset, 2)
    assert set(found) == {known.IGNORED, known.NO_PIXELS} and not any(fault for _, fault in found.values())
    assert found[known.IGNORED][0] == '75.0 % of the pixels in 1 masks are ignored'
    assert found[known.NO_PIXELS][0].startswith('1 of 2 in 1 masks: road. ')
    assert set(problems(dataset, 2, is_training=False)) == {known.IGNORED}


def test_masks_of_several_channels(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.array([[0, 1], [2, 1]]), np.array([[0, 1], [2, 1]]))
    write_mask(tmp_path / 'masks' / '1.png', np.ones((2, 2), np.uint8), 'RGB')
    [(problem, is_fault)] = problems(dataset).values()
    assert "1.png is loaded as 2 x 2 x 3 values: type='resformer_mm.LoadSegMap'" in problem and is_fault


def test_zero_is_a_class_but_reduced(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.array([[0, 1], [2, 2]]), reduce_zero_label=True)
    [(problem, _)] = problems(dataset).values()
    assert problem.startswith('1 of 3 in 1 masks: tree. 25.0 % of the pixels are ignored')


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    dataset = data_of(tmp_path, np.zeros((2, 2)), np.array([[0, 1], [2, 2]]))
    (tmp_path / 'masks' / '0.png').write_bytes(b'text')
    [(kind, (problem, is_fault))] = problems(dataset).items()
    assert kind == known.UNREADABLE and 'Error: ' in problem and is_fault


@pytest.mark.parametrize(
    ('name', 'sigmoid', 'head', 'expected'),
    [
        ('loss_decode', False, SimpleNamespace(out_channels=3), {3}),
        ('loss_decode', True, SimpleNamespace(out_channels=1), {2, 1}),  # two classes, one threshold
        ('loss_cls', False, SimpleNamespace(), {4}),  # Mask2Former
        ('0', False, SideAdapterCLIPHead.__new__(SideAdapterCLIPHead), {4}),
    ],
)
def test_numbers_of_class_weights(name, sigmoid, head, expected) -> None:
    loss = SimpleNamespace(use_sigmoid=sigmoid)
    assert set(known.class_weights(loss, name, head, 2 if sigmoid else 3)) == expected


@pytest.mark.parametrize(
    'options',
    [dict(), dict(iou_metrics=['mIoU', 'mDice', 'mFscore']), dict(iou_metrics=['mFscore'], prefix='a')],
    ids=str,
)
def test_names_are_those_of_an_evaluation(options: dict) -> None:
    metric = IoUMetric(**options)
    names = known.metric_names(metric, 3, None)
    metric.dataset_meta = dict(classes=('sky', 'road', 'tree'))
    labels = dict(data=torch.tensor([[[0, 1, 2]]]))
    metric.process({}, [dict(pred_sem_seg=labels, gt_sem_seg=labels)])
    prefix = f'{metric.prefix}/' if metric.prefix else ''
    assert {f'{prefix}{name}' for name in names} == set(metric.evaluate(size=1))


def test_names_that_are_not_known(tmp_path: Path) -> None:
    assert known.metric_names(IoUMetric(format_only=True, output_dir=str(tmp_path)), 3, None) == []
    assert known.metric_names(CityscapesMetric.__new__(CityscapesMetric), 3, None) is None
