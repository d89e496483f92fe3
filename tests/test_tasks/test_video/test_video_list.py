"""Video lists: their samples, and error messages with file and line."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from clip_files import write_clip, write_truncated
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from resformer_mm.compat import prepare_mmaction
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.engine import CheckNumClassesHook, SkippedImagesHook

prepare_mmaction()

RESIZE = dict(type='Resize', scale=('{resolution}', '{resolution}'), keep_ratio=False)
PIPELINE = [
    dict(type='resformer_mm.ClipInit', on_error='skip'),
    dict(
        type='resformer_mm.MultiResolutionClips',
        resolutions=[32, 16],
        num_frames=2,
        frame_interval=2,
        transforms=[RESIZE, dict(type='FormatShape', input_format='NCTHW')],
    ),
    dict(type='resformer_mm.PackClips'),
]


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope('mmaction')


def build(root: Path, text: str, **kwargs):
    (root / 'list.txt').write_text(text)
    settings = dict(ann_file='list.txt', data_root=str(root), data_prefix=dict(video='videos'), pipeline=[])
    return DATASETS.build(dict(type='resformer_mm.VideoList', **{**settings, **kwargs}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ('a.mp4', 'two words/b  c.mp4'):
        write_clip(tmp_path / 'videos' / name)
    return tmp_path


@pytest.mark.slow
def test_paths_with_spaces_tabs_and_empty_lines(root: Path) -> None:
    dataset = build(root, 'a.mp4 0\n\n two words/b  c.mp4\t1\n', num_classes=2)
    assert [dataset[index]['label'] for index in range(len(dataset))] == [0, 1]
    assert dataset[1]['filename'] == str(root / 'videos' / 'two words' / 'b  c.mp4')
    assert build(root, 'two words/b  c.mp4,1', delimiter=',')[0]['label'] == 1
    dataset = build(root, 'a.mp4 1', metainfo=dict(classes=['walk', 'run']))
    assert dataset.num_classes == 2 and dataset.metainfo['classes'] == ['walk', 'run']
    (root / 'classes.txt').write_text('\ufeffwalk\nrun\nrest\n', encoding='utf-8')
    dataset = build(root, 'a.mp4 walk', metainfo=dict(classes=str(root / 'classes.txt')))
    assert dataset.num_classes == 3 and dataset.metainfo['classes'] == ['walk', 'run', 'rest']
    # The mark that some editors put before the text.
    assert build(root, '\ufeffa.mp4 1\r\n')[0]['filename'] == str(root / 'videos' / 'a.mp4')
    assert build(root, 'two words\\b  c.mp4 1')[0]['filename'].endswith('/two words/b  c.mp4')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.mp4 0\na.mp4\n', r"list\.txt, line 2: line without a label, 'a.mp4' is not `PATH LABEL`"),
        (
            'two words/b  c.mp4\n',
            r"line 1: label is not a number, 'c.mp4' of 'two words/b' is not an integer",
        ),
        ('a.mp4 0.5', r"line 1: label is not a number, '0.5'"),
        ('a.mp4 --1', r"line 1: label is not a number, '--1'"),
        ('a.mp4 1\na.mp4 -1\n', r"line 2: label out of range, -1 of 'a.mp4' is not in 0 to 1"),
        (
            '\na.mp4 2\n',
            r"line 2: label out of range, 2 of 'a.mp4' is not in 0 to 1: correct the lines",
        ),
        ('x\n' * 9, r'line 5: .*; and 4 more: correct the lines .*check_video.py'),
        ('\n \n', r'list\.txt lists no clips: check data_root and ann_file'),
    ],
)
def test_bad_lines_are_named(root: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(root, text, num_classes=2)


def test_clips_without_labels(root: Path) -> None:
    dataset = build(root, 'a.mp4\n\ntwo words/b  c.mp4\n', with_label=False, test_mode=True)
    assert len(dataset) == 2 and dataset[1]['filename'].endswith('/two words/b  c.mp4')
    assert 'label' not in dataset[0]
    with pytest.raises(ValueError, match='for a test without labels, set with_label=False'):
        build(root, 'a.mp4')


def test_files_that_do_not_exist_are_named(root: Path) -> None:
    lines = ''.join(f'gone/{number}.mp4 0\n' for number in range(9))
    with pytest.raises(
        FileNotFoundError, match='10 of the 11 clips.*do not exist.*videos/b.mp4.*remove their'
    ):
        build(root, f'a.mp4 0\nb.mp4 1\n{lines}')
    with pytest.raises(FileNotFoundError, match="Without '/home/me/' the first one exists"):
        build(root, '/home/me/two words/b  c.mp4 0')
    with pytest.raises(FileNotFoundError, match='there is no list.*nowhere.txt.*check data_root'):
        build(root, '', ann_file='nowhere.txt')


def test_classes_that_disagree(root: Path) -> None:
    with pytest.raises(ValueError, match='num_classes is 3, but metainfo.classes names 2'):
        build(root, 'a.mp4 1', num_classes=3, metainfo=dict(classes=['walk', 'run']))
    with pytest.raises(ValueError, match='one label per clip.*mmaction.VideoDataset'):
        build(root, 'a.mp4 1', num_classes=3, multi_class=True)
    with pytest.raises(ValueError, match="classes='walk' is neither a list of class names nor a file"):
        build(root, 'a.mp4 1', metainfo=dict(classes='walk'))
    for number in ('2', 0, 2.0):
        with pytest.raises(ValueError, match=f'num_classes={number!r} must be an integer'):
            build(root, 'a.mp4 1', num_classes=number)


@pytest.mark.parametrize('settings', [dict(num_classes=2), dict(metainfo=dict(classes=['walk', 'run']))])
def test_a_head_for_other_classes_stops_the_run(root: Path, settings: dict) -> None:
    loader = SimpleNamespace(dataset=build(root, 'a.mp4 1', **settings))
    runner = SimpleNamespace(train_dataloader=loader, val_dataloader=loader, test_dataloader=loader)
    hook, head = CheckNumClassesHook(), nn.Module()
    runner.model = nn.ModuleDict(dict(cls_head=head))
    head.num_classes = 2
    hook.before_train(runner)
    head.num_classes = 400
    for check in (hook.before_train, hook.before_val_epoch, hook.before_test_epoch):
        with pytest.raises(ValueError, match=r'cls_head.num_classes is 400, but the data set of \w+ has 2'):
            check(runner)


def test_a_list_that_is_not_text(root: Path) -> None:
    (root / 'picture.txt').write_bytes(b'\xff\xd8\xff\xe0')
    with pytest.raises(ValueError, match=r'picture\.txt is not UTF-8 text'):
        build(root, '', ann_file='picture.txt')
    with pytest.raises(ValueError, match="data_prefix=.'clips': ''. has no 'video', the folder"):
        build(root, 'a.mp4 1', data_prefix=dict(clips=''))


def test_a_skipped_clip_has_a_stand_in_of_the_same_resolution_and_is_counted(root: Path) -> None:
    write_truncated(root / 'videos' / 'bad.mp4')
    dataset = build(root, 'a.mp4 0\nbad.mp4 1\n', pipeline=PIPELINE)
    sample = dataset[ResolutionIndex(1, 16)]
    assert [tuple(clip.shape) for clip in sample['inputs']] == [(1, 3, 2, 16, 16)]
    assert sample['data_samples'].filename.endswith('a.mp4')
    skipped = dataset.pipeline.transforms[0].num_skipped
    assert skipped >= 1

    class Runner:
        class train_dataloader:  # noqa: N801
            pass

    Runner.train_dataloader.dataset = dataset
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'resformer_mm.engine.hooks.print_log', lambda text, **kwargs: said.append((text, kwargs))
        )
        SkippedImagesHook().after_train_epoch(Runner())
        for wrapped in (RepeatDataset(dataset, 2), ConcatDataset([dataset])):
            Runner.train_dataloader.dataset = wrapped
            SkippedImagesHook().after_train_epoch(Runner())
    assert f'{skipped} reads' in said[0][0] and said[0][1]['level'] == logging.WARNING
    assert said[1:] == said[:1] * 2
