"""Which samples are held back when a folder has no validation split."""

from __future__ import annotations

import numpy as np
import pytest

from resformer_mm.finetuning.data import assign_roles
from resformer_mm.finetuning.splitting import SHARE, groups_of, split_samples


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('num_classes', [2, 7, 40])
def test_every_class_has_about_the_same_share(num_classes, seed):
    generator = np.random.default_rng(seed)
    labels = [[int(label)] for label in generator.integers(num_classes, size=60 * num_classes)]
    split = split_samples([f'photo{n:04}.jpg' for n in range(len(labels))], labels, seed=seed)
    assert sorted(split.train + split.val) == list(range(len(labels)))
    assert abs(len(split.val) / len(labels) - SHARE) < 0.05
    for label in range(num_classes):
        mine = [place for place, found in enumerate(labels) if found == [label]]
        assert abs(len(set(mine) & set(split.val)) / len(mine) - SHARE) < 0.1


def test_frames_of_a_video_stay_together():
    names = [f'street{video}_frame_{frame:03}.png' for video in range(20) for frame in range(11)]
    split = split_samples(names, [[0, video % 3] for video in range(20) for _ in range(11)])
    videos = [{names[place].split('_')[0] for place in places} for places in (split.train, split.val)]
    assert not videos[0] & videos[1] and 2 <= len(videos[1]) <= 6
    assert '20 sequences' in split.text


def test_folders_of_videos_stay_together():
    names = [f'v{video}/{frame}.png' for video in range(10) for frame in range(5)]
    groups, are_sequences = groups_of(names)
    assert are_sequences and set(groups) == {f'v{video}' for video in range(10)}


def test_augmented_copies_stay_together():
    names = [f'a{n}_jpg.rf.{copy:08x}.jpg' for n in 'bcdefghijk' for copy in range(3)]
    split = split_samples(names, [[0]] * len(names))
    originals = [{names[place].split('.rf.')[0] for place in places} for places in (split.train, split.val)]
    assert not originals[0] & originals[1] and originals[1]


@pytest.mark.parametrize(
    'names',
    [
        [f'IMG_{n:04}.jpg' for n in range(30)],  # a camera numbers its photos
        [f'{n:012}.jpg' for n in range(30)],
        [f'n0{n % 6}_{n}.JPEG' for n in range(30)],  # begins with the class
    ],
)
def test_other_numbers_tell_no_sequences(names):
    groups, are_sequences = groups_of(names, num_classes=6)
    assert not are_sequences and len(set(groups)) == 30


def test_rare_classes_are_learned():
    labels = [[0]] * 20 + [[0, 1]] + [[2]] * 2
    split = split_samples([f'{"abcdefghijklmnopqrstuvwxyz"[n]}.jpg' for n in range(23)], labels)
    assert 20 in split.train  # the only sample of its class
    assert len({21, 22} & set(split.train)) >= 1


def test_one_sequence_cannot_be_split():
    with pytest.raises(ValueError, match='give a validation split'):
        split_samples(['a.rf.12345678.jpg', 'a.rf.abcdef12.jpg'], [[0], [0]])


@pytest.mark.parametrize(
    ('names', 'roles'),
    [
        (['train', 'val'], (0, 1, None)),
        (['train', 'test'], (0, 1, None)),
        (['val', 'test', 'train'], (2, 0, 1)),
        (['test', 'valid'], (1, None, 0)),
        (['test'], (0, None, None)),
        ([''], (0, None, None)),
        (['photos', 'test'], (0, 1, None)),
        (['annotations/instances_val2017.json', 'annotations/instances_train2017.json'], (1, 0, None)),
        (['val/_annotations.coco.json', 'train/_annotations.coco.json'], (1, 0, None)),
        (['testing_site/val_list.txt', 'testing_site/train_list.txt'], (1, 0, None)),
    ],
)
def test_splits_are_told_by_their_names(names, roles):
    found = assign_roles(names)
    assert (found.train, found.val, found.test) == roles


def test_splits_that_are_not_used_are_named():
    found = assign_roles(['train/a.json', 'train/b.json', 'val/a.json', 'other/c.json'])
    assert (found.train, found.val) == (0, 2)
    assert found.notes == ('not used, since another split has this part: train/b.json, other/c.json',)
