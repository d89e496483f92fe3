"""Splits whose classes do not agree stop a run before its first step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, RepeatDataset
from torch import nn
from torch.utils.data import ConcatDataset

from resformer_mm.engine import CheckNumClassesHook, CheckSplitsHook
from resformer_mm.engine.classes import recorded_problem

NAMES = ('cat', 'dog', 'emu')


class Folders(BaseDataset):
    """Files in class folders, as a data set that numbers the folders in alphabetical order has them."""

    def __init__(self, folders, classes=None, numbers=None) -> None:
        self.folder_to_idx = numbers or {name: label for label, name in enumerate(sorted(folders))}
        super().__init__(metainfo=dict(classes=classes or tuple(sorted(folders))))

    def load_data_list(self) -> list[dict]:
        return [
            dict(img_path=f'x/{name}/1.jpg', gt_label=label) for name, label in self.folder_to_idx.items()
        ]


class Listed(BaseDataset):
    """Files in a list, whose classes are unknown."""

    def __init__(self, *lines, **options) -> None:
        self.lines = lines
        super().__init__(**options)

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=path, gt_label=label) for path, label in self.lines]


def run(train, val, number=3, hook=CheckSplitsHook, model=None) -> None:
    head = nn.Module()
    head.num_classes = number
    model = (model or nn.ModuleDict)(dict(head=head))
    train, val = (SimpleNamespace(dataset=dataset) for dataset in (train, val))
    hook().before_train(
        SimpleNamespace(model=model, train_dataloader=train, val_dataloader=val, val_loop=object())
    )


WRAPPERS = [
    lambda data: data,
    lambda data: RepeatDataset(data, 2),
    lambda data: ConcatDataset([Folders(NAMES), RepeatDataset(data, 2)]),
]


@pytest.mark.parametrize('wrap', WRAPPERS, ids=['plain', 'repeated', 'joined'])
@pytest.mark.parametrize(
    ('folders', 'message'),
    [
        (('cat', 'emu'), r'only train_dataloader.dataset has dog\. '),
        (
            ('cat', 'Dog', 'emu'),
            r'only train_dataloader.dataset has dog; only val_dataloader.dataset has Dog',
        ),
        (('cat', 'dog', 'Emu'), r'has emu; only val_dataloader.dataset has Emu'),
        (('cat', 'dog', 'emu', 'fox', 'gnu'), r'only val_dataloader.dataset has fox, gnu'),
        (('chat', 'chien', 'emeu'), r'has cat, dog, emu; only val'),
    ],
)
def test_folders_that_one_split_has_are_named(folders, message, wrap) -> None:
    with pytest.raises(ValueError, match=rf'val_dataloader.dataset are not those of train.*{message}'):
        run(Folders(NAMES), wrap(Folders(folders)))
    run(Folders(NAMES), wrap(Folders(NAMES)))


def test_categories_that_an_annotation_file_lacks_are_named() -> None:
    data = Folders(NAMES)
    data.folder_to_idx, data.cat_ids = None, [1, 5]
    with pytest.raises(ValueError, match=r'train_dataloader.dataset: its annotation file has .* 2 of the 3'):
        run(data, data)
    test = SimpleNamespace(model=nn.Module(), test_dataloader=SimpleNamespace(dataset=data))
    with pytest.raises(ValueError, match=r'test_dataloader.dataset: .* 2 of the 3 names .*cat, dog, emu'):
        CheckSplitsHook().before_test(test)
    data.cat_ids = [1, 5, 7, 9]
    CheckSplitsHook().before_test(test)


def test_the_classes_decide_where_both_have_them() -> None:
    """A class may have no folder; the same names in another order are other labels."""
    run(Folders(NAMES), Folders(('cat', 'emu'), NAMES, dict(cat=0, emu=2)))
    with pytest.raises(ValueError, match='the folder emu has the label 1, but metainfo.classes .* class 2'):
        run(Folders(NAMES), Folders(('cat', 'emu'), NAMES))
    with pytest.raises(ValueError, match='folder b as class 1, val_dataloader.dataset b as class 0'):
        run(Folders(('a', 'b', 'c'), NAMES), Folders(('b', 'c', 'd'), NAMES))
    with pytest.raises(ValueError, match="another order, 'cat' is class 0 in .* and class 2 in val"):
        run(Folders(NAMES), Folders(NAMES, NAMES[::-1]))


def test_folders_that_a_foreign_data_set_numbers_by_the_alphabet() -> None:
    spelled = Folders(('cat', 'Emu', 'dog'), NAMES)  # Emu, cat, dog
    with pytest.raises(
        ValueError, match='test_dataloader.dataset: the folder Emu has the label 0, .* class 2:'
    ):
        tested = SimpleNamespace(dataset=spelled)
        CheckSplitsHook().before_test(SimpleNamespace(model=nn.Module(), test_dataloader=tested))
    with pytest.raises(
        ValueError, match="val_dataloader.dataset: the folder Emu .*type='resformer_mm.ImageF"
    ):
        run(Folders(NAMES), spelled)
    other_order = Folders(NAMES, NAMES[::-1])  # names alone are wrong, and in both splits
    run(other_order, other_order)
    run(Folders(('n1', 'n2', 'n3'), NAMES), Folders(('n1', 'n2', 'n3'), NAMES))


def test_hidden_folders_as_classes_of_a_foreign_data_set() -> None:
    hidden = Folders((*NAMES[1:], '.ipynb_checkpoints'))
    with pytest.raises(ValueError, match=r'train_dataloader.dataset: \.ipynb_checkpoints counts as a class'):
        run(hidden, hidden)
    with pytest.raises(ValueError, match=r'test_dataloader.dataset: \.ipynb_checkpoints counts as a class'):
        loader = SimpleNamespace(dataset=hidden)
        CheckSplitsHook().before_test(SimpleNamespace(model=nn.Module(), test_dataloader=loader))


def test_labels_of_a_list_are_those_of_the_folders() -> None:
    run(Folders(NAMES), Listed(('x/cat/1.jpg', 0), ('x/emu/2.jpg', 2), ('elsewhere.jpg', 1)))
    with pytest.raises(ValueError, match='gives x/emu/2.jpg the label 1, but the folder emu is class 2'):
        run(Folders(NAMES), Listed(('x/cat/1.jpg', 0), ('x/emu/2.jpg', 1)))


def test_models_for_other_classes_than_those_of_the_training() -> None:
    class BaseRetriever(nn.ModuleDict):
        pass

    for hook in (CheckSplitsHook, CheckNumClassesHook):
        run(Folders(NAMES), Folders(('a', 'b')), 256, hook, BaseRetriever)
        run(
            Folders(NAMES),
            Folders(('a', 'b')),
            256,
            hook,
            lambda heads: nn.ModuleDict({**heads, 'language_model': nn.Identity()}),
        )


def test_a_head_of_boundaries() -> None:
    class STDCHead(nn.Module):
        num_classes: int

    boundary = STDCHead()
    boundary.num_classes = 2
    data = Folders(NAMES)
    run(
        data, data, 3, CheckNumClassesHook, lambda heads: nn.ModuleDict({**heads, 'auxiliary_head': boundary})
    )
    with pytest.raises(ValueError, match='head.num_classes is 2'):
        run(data, data, 2, CheckNumClassesHook)


def test_a_model_that_proposes_regions() -> None:
    class RPN(nn.ModuleDict):
        pass

    data = Folders(NAMES)
    run(data, data, 1, CheckNumClassesHook, RPN)
    with pytest.raises(ValueError, match='head.num_classes is 1'):
        run(data, data, 1, CheckNumClassesHook)


def test_heads_for_the_things_of_a_panoptic_data_set() -> None:
    data = Folders(NAMES)
    data._metainfo.update(thing_classes=['cat', 'dog'], stuff_classes=['emu'])
    run(data, data, 2, CheckNumClassesHook)
    with pytest.raises(ValueError, match='head.num_classes is 4'):
        run(data, data, 4, CheckNumClassesHook)


def test_lists_without_classes() -> None:
    lines = [('a.jpg', 0), ('b.jpg', 1), ('c.jpg', 2)]
    whole = Listed(*lines)
    run(whole, whole, 3, CheckNumClassesHook)
    with pytest.raises(
        ValueError, match=r'head.num_classes is 10, but .* labels 0 to 2 .*num_classes of .* 3\.'
    ):
        run(whole, whole, 10, CheckNumClassesHook)
    run(Listed(*lines, indices=2), whole, 10, CheckNumClassesHook)
    with pytest.raises(
        ValueError, match=r'head.num_classes is 2, but .*val_dataloader has the labels 0 to 2'
    ):
        run(Listed(*lines[:2]), whole, 2, CheckNumClassesHook)
    with pytest.raises(ValueError, match='count from 1'):
        run(Listed(('a.jpg', 1), ('b.jpg', 2)), whole, 2, CheckNumClassesHook)
    run(Listed(('a.jpg', 0), ('b.jpg', 4)), Listed(('a.jpg', 0)), 10, CheckNumClassesHook)  # some of many


@pytest.mark.parametrize(
    ('recorded', 'tested', 'fits'),
    [
        (NAMES, NAMES, True),
        (NAMES, ('n01', 'n02', 'n03'), True),
        (NAMES, ('Cat', 'dog', 'large emu'), True),
        (NAMES, ('cat', 'emu'), False),
        (NAMES, ('Dog', 'cat', 'emu'), False),
        (NAMES, ('cat', 'dog', 'emu', 'fox'), False),
        (('crane', 'dog', 'crane'), ('crane', 'dog', 'crane'), True),
    ],
)
def test_classes_in_a_checkpoint(recorded, tested, fits) -> None:
    problem = recorded_problem(recorded, tested, 'a.pth')
    assert (problem is None) == fits
    assert fits or problem.startswith('a.pth was trained on other classes')
