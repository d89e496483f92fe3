"""A test draws one picture per sample."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from resformer_mm.engine.pictures import DrawOneViewHook, PicturePerSample, image_root


def sample(path: str) -> dict:
    return dict(img_path=path)


def started(root: str | None) -> PicturePerSample:
    visualizer = PicturePerSample()
    visualizer.start_pictures(root)
    return visualizer


def test_names_have_the_folders_of_their_images() -> None:
    visualizer = started('data/val')
    files = {
        visualizer.picture_file('out/x.jpg', sample(f'data/val/{name}/x.jpg')) for name in ('a', 'a/b', 'c')
    }
    assert files == {'out/a__x.jpg', 'out/a__b__x.jpg', 'out/c__x.jpg'}
    assert visualizer.picture_file('out/x.jpg', sample('data/val/x.jpg')) == 'out/x.jpg'
    assert visualizer.picture_file('out/x.jpg', sample('/else/where/x.jpg')) == 'out/else__where__x.jpg'
    assert visualizer.picture_file('out/x.jpg', sample('s3://pail/x.jpg')) == 'out/s3:__pail__x.jpg'
    deep = visualizer.picture_file('out/x.jpg', sample('/' + 'deep/' * 99 + 'x.jpg'))
    assert len(deep) < 40 and deep.endswith('__x.jpg')
    assert visualizer.picture_file(None, sample('data/val/x.jpg')) is None


def test_a_second_sample_of_an_image_gets_a_number() -> None:
    visualizer = started('data')
    files = [visualizer.picture_file('out/x.jpg', sample('data/x.jpg')) for _ in range(3)]
    assert files == ['out/x.jpg', 'out/x_2.jpg', 'out/x_3.jpg']
    visualizer.start_pictures('data')
    assert visualizer.picture_file('out/x.jpg', sample('data/x.jpg')) == 'out/x.jpg'


def test_formats_that_cannot_be_written_become_png() -> None:
    assert started('d').picture_file('out/x.gif', sample('d/x.gif')) == 'out/x.gif.png'
    assert started('d').picture_file('out/x.mp4_0', sample('d/x.mp4')) == 'out/x.mp4_0'  # a folder of frames


def test_names_without_folders() -> None:
    visualizer = started('data')
    assert visualizer.picture_name('test_x.jpg', sample('data/a/b/x.jpg')) == 'test_a__b__x.jpg'
    assert visualizer.picture_name('x.jpg', sample('data/x.jpg')) == 'x.jpg'
    assert visualizer.picture_name('17', sample('data/a/x.jpg')) == 'a__17'
    assert started(None).picture_name('x.jpg', sample('data/a/x.jpg')) == 'x.jpg'


@pytest.mark.parametrize(
    ('prefixes', 'root'),
    [
        ([dict(img_path='data/images/val/', seg_map_path='data/masks/val')], 'data/images/val'),
        ([dict(img='a/x'), dict(img='a/y')], 'a'),
        ([dict(img='a/x'), dict(img='/b')], ''),
        ([{}], ''),
    ],
)
def test_the_root_is_that_of_all_data_sets(prefixes: list[dict], root: str) -> None:
    parts = [SimpleNamespace(data_prefix=prefix) for prefix in prefixes]
    loader = SimpleNamespace(dataset=SimpleNamespace(datasets=parts))
    assert image_root([loader]) == root


def test_a_test_with_augmentation_draws_the_view_without_a_flip() -> None:
    class OneVisualizationHook(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch, outputs) -> None:
            drawn.append(data_batch['inputs'])

    drawn: list = []
    runner = SimpleNamespace(hooks=[OneVisualizationHook()])
    DrawOneViewHook().before_test(runner)
    views = [[BaseDataElement(metainfo=dict(flip=flip))] for flip in (True, False)]
    for batch in (
        dict(inputs=[[torch.zeros(1)], [torch.ones(1)]], data_samples=views),
        dict(inputs=[torch.full((1,), 2.0)], data_samples=views[0]),
    ):
        runner.hooks[0].after_test_iter(runner=None, batch_idx=0, data_batch=batch, outputs=[])
    assert drawn == [[torch.ones(1)], [torch.full((1,), 2.0)]]
