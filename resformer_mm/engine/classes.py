"""Classes of data sets, and whether those of two data sets agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from resformer_mm.hidden_files import is_hidden
from resformer_mm.text import shorten_list

MOST_SAMPLES = 20_000

# It predicts whether a pixel is at a boundary.
_OTHER_HEADS = ('STDCHead',)
# It proposes where objects are, but not which.
_CLASS_AGNOSTIC = ('RPN',)
# They match pictures or objects by their features, or read the classes as text: other classes than those
# of the data set are not a mistake.
_OPEN_SET = ('BaseRetriever', 'BaseMOTModel')


def innermost(dataset: Any) -> Iterator[Any]:
    """Yield the data sets inside wrappers that repeat, join or balance them."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset
    else:
        for wrapped in inner:
            yield from innermost(wrapped)


def class_names(dataset: Any) -> tuple[str, ...] | None:
    """Return the names of the classes of a data set; None if it does not have them."""
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return tuple(map(str, names)) if names and not isinstance(names, str) else None


def number_of_classes(dataset: Any) -> int | None:
    """Return the number of classes that a data set states; None if it states none."""
    names = class_names(dataset)
    return getattr(dataset, 'num_classes', None) if names is None else len(names)


def parts_of_classes(dataset: Any) -> set[int]:
    """Return the numbers of classes that heads for a part of the classes have: things and stuff."""
    meta = getattr(dataset, 'metainfo', None) or {}
    return {len(meta[part]) for part in ('thing_classes', 'stuff_classes') if meta.get(part)}


def labels_of(dataset: Any) -> list[int]:
    """Return the labels of the samples of a data set that has one label per sample and states no classes.

    Empty for other data sets, and for those of more than :data:`MOST_SAMPLES` samples.
    """
    if number_of_classes(dataset) is not None or not hasattr(dataset, 'get_data_info'):
        return []
    # What was not loaded yet would be loaded by asking for its length.
    if not getattr(dataset, '_fully_initialized', True) or not 0 < len(dataset) <= MOST_SAMPLES:
        return []
    labels = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        label = info.get('gt_label', info.get('label'))
        if isinstance(label, bool) or not isinstance(label, int):
            return []
        labels.append(label)
    return labels


def is_open_set(model: nn.Module) -> bool:
    """Whether a model can be tested on other classes than those that it was trained on."""
    return bool(_kinds(model) & set(_OPEN_SET)) or any(
        name.rpartition('.')[2] in ('language_model', 'text_encoder') for name, _ in model.named_modules()
    )


def _kinds(model: nn.Module) -> set[str]:
    """Return the names of the classes that a model derives from, inside a distributed wrapper or not."""
    modules = (model, getattr(model, 'module', None))
    return {base.__name__ for module in modules for base in type(module).__mro__}


def class_heads(model: nn.Module, ignore: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of classes of every head that predicts the classes of the data.

    A head is a module called ``head`` or ``..._head``, or an item of a list of that name. Left out are
    class-agnostic heads, those of boundaries and of models that propose regions, and heads whose class fixes
    the number, such as those of depth.

    Args:
        model: the model.
        ignore: names of heads that predict something else.
    """
    if _kinds(model) & set(_CLASS_AGNOSTIC):
        return
    for name, module in model.named_modules():
        number = vars(module).get('num_classes')
        is_other = getattr(module, 'class_agnostic', False) or type(module).__name__ in _OTHER_HEADS
        if number is None or is_other:
            continue
        parts = [part for part in name.split('.') if not part.isdigit()]
        if parts and parts[-1].split('_')[-1] == 'head' and not set(parts) & set(ignore):
            yield name, number


def head_problem(
    number: int, dataset: Any, labels: Sequence[int], field: str, is_training: bool
) -> str | None:
    """Return what is wrong with the number of classes of a head; None if nothing.

    Heads for a part of the classes, things or stuff, are right as well. Where a data set states no classes,
    its labels count.

    Args:
        number: number of classes of the head.
        dataset: data set whose classes it predicts, without wrappers.
        labels: what :func:`labels_of` returns for the data set.
        field: config field of the data set, for the message.
        is_training: whether the head is trained on it.
    """
    expected = number_of_classes(dataset)
    if expected is not None:
        if number == expected or number in parts_of_classes(dataset):
            return None
        return (
            f'is {number}, but the data set of {field} has {expected} classes: set num_classes of every head '
            'to that of the data'
        )
    if not labels:
        return None
    lowest, highest = min(labels), max(labels)
    where = f'the data set of {field} has the labels {lowest} to {highest} and states no classes'
    remedy = 'set metainfo.classes (or num_classes, for videos) of the data set to all classes'
    if lowest == 1 and highest == number:
        return f'is {number}, but {where}: they seem to count from 1. Subtract 1 from every label of the list'
    if not 0 <= lowest <= highest < number:
        return f'is {number}, but {where}: {remedy}, and num_classes of the head'
    is_part = getattr(dataset, '_indices', None) is not None  # of a longer list, as to try a config
    if is_training and not is_part and highest + 1 < number and len(set(labels)) == highest + 1:
        return (
            f'is {number}, but {where}: {number - highest - 1} outputs would never be learned. Set '
            f'num_classes of the head to {highest + 1}. If there are more classes: {remedy}'
        )
    return None


def hidden_classes(dataset: Any, name: str) -> str | None:
    """Return what is wrong with class folders that are hidden; None if there are none.

    Args:
        dataset: a data set without wrappers.
        name: its config field, for the message.
    """
    hidden = [folder for folder in getattr(dataset, 'folder_to_idx', None) or () if is_hidden(folder)]
    if not hidden:
        return None
    return (
        f'{name}: {shorten_list(hidden)} counts as a class, but is a hidden folder: delete it, or use '
        "type='resformer_mm.ImageFolder', which leaves such folders out"
    )


def split_problem(first: Any, second: Any, names: tuple[str, str]) -> str | None:
    """Return why the classes of two splits do not agree; None if they do, as far as they show.

    Args:
        first: data set that defines the classes, inside any wrapper.
        second: the other one.
        names: config fields of both, for the message.
    """
    for dataset, name in ((first, names[0]), (second, names[1])):
        if (problem := hidden_classes(dataset, name)) is not None:
            return problem
    difference = name_difference(class_names(first), class_names(second), names)
    if difference is None:
        difference = _label_difference(first, second, names)
    if difference is None:
        return None
    return (
        f'the classes of {names[1]} are not those of {names[0]}: {difference}. The labels of one of them '
        'would be wrong. Give the class folders the same names, or list all classes in metainfo.classes of '
        "both; with type='resformer_mm.ImageFolder', a class then needs no folder"
    )


def folder_problem(dataset: Any, name: str) -> tuple[str, bool] | None:
    """Return what is wrong with folders numbered by the alphabet beside a list of classes; None if nothing.

    Args:
        dataset: a data set without wrappers.
        name: its config field, for the message.

    Returns:
        The problem, and whether labels are wrong. They are not where the folders have the names of all
        classes in another order: then the names alone are.
    """
    classes, folders = class_names(dataset), getattr(dataset, 'folder_to_idx', None)
    if not classes or not folders:
        return None
    places = {entry.casefold(): label for label, entry in enumerate(classes)}
    wrong = [folder for folder, label in folders.items() if places.get(folder.casefold(), label) != label]
    if not wrong:
        return None
    return (
        f'{name}: the folder {wrong[0]} has the label {folders[wrong[0]]}, but metainfo.classes names it '
        f'class {places[wrong[0].casefold()]}: this data set numbers folders in alphabetical order. Use '
        "type='resformer_mm.ImageFolder', which numbers them by their names, and rename folders that differ"
    ), set(folders) != set(classes)


def category_problem(dataset: Any, name: str) -> str | None:
    """Return which classes the annotation file of a data set lacks; None if none, or if it has no such file.

    Data sets of mmdetection number the categories that they find, so every class after a missing one gets
    the label of another.

    Args:
        dataset: a data set without wrappers.
        name: its config field, for the message.
    """
    categories, classes = getattr(dataset, 'cat_ids', None), class_names(dataset)
    if categories is None or classes is None or len(categories) >= len(classes):
        return None
    return (
        f'{name}: its annotation file has categories of {len(categories)} of the {len(classes)} names in '
        f'metainfo.classes, {shorten_list(classes)}: labels would be wrong. Set metainfo.classes to the '
        'names of the categories, in their order and spelling'
    )


def name_difference(
    first: Sequence[str] | None, second: Sequence[str] | None, names: tuple[str, str]
) -> str | None:
    """Return how two lists of classes differ; None if they are equal or one of them is not known."""
    if first is None or second is None or tuple(first) == tuple(second):
        return None
    lacking = [
        f'only {name} has {shorten_list(only)}'
        for name, only in (
            (names[0], [entry for entry in first if entry not in second]),
            (names[1], [entry for entry in second if entry not in first]),
        )
        if only
    ]
    if lacking:
        return '; '.join(lacking)
    moved = next(entry for entry, other in zip(first, second) if entry != other)
    return (
        f'they have another order, {moved!r} is class {list(first).index(moved)} in {names[0]} and class '
        f'{list(second).index(moved)} in {names[1]}'
    )


def recorded_problem(recorded: Sequence[str], tested: Sequence[str], source: str) -> str | None:
    """Return why the classes of a test set are not those of a checkpoint; None if they may be.

    Names may differ, where labels are those of the same classes: libraries rename classes, and folders have
    other names than classes.

    Args:
        recorded: classes in the checkpoint.
        tested: classes of the test set.
        source: the checkpoint, for the message.
    """
    if tuple(recorded) == tuple(tested):
        return None
    places = {name.casefold(): label for label, name in enumerate(tested)}
    common = [(label, name) for label, name in enumerate(recorded) if name.casefold() in places]
    agree = all(
        places[name.casefold()] == label or recorded.count(name) > 1 or tested.count(name) > 1
        for label, name in common
    )
    if len(recorded) == len(tested) and agree:
        return None
    difference = name_difference(recorded, tested, ('the checkpoint', 'test_dataloader.dataset'))
    return (
        f'{source} was trained on other classes than those of test_dataloader.dataset, {len(recorded)} and '
        f'{len(tested)}: {difference}. The labels would be wrong: give the class folders the names of the '
        'training, or set metainfo.classes of the test set to the classes of the training, in their order'
    )


def _label_difference(first: Any, second: Any, names: tuple[str, str]) -> str | None:
    """Compare the labels of class folders with each other, and with labels in a list."""
    folders = [getattr(dataset, 'folder_to_idx', None) for dataset in (first, second)]
    if folders[0] and folders[1]:
        return _folder_difference(folders[0], folders[1], names)
    for own, dataset, name in ((folders[0], second, names[1]), (folders[1], first, names[0])):
        if own and (found := _misplaced(own, dataset)) is not None:
            path, label, folder = found
            return (
                f'{name} gives {path} the label {label}, but the folder {folder} is class {own[folder]} '
                'in the other'
            )
    return None


def _folder_difference(
    first: Mapping[str, int], second: Mapping[str, int], names: tuple[str, str]
) -> str | None:
    by_case = {folder.casefold(): folder for folder in first}
    for folder, label in second.items():
        other = folder if folder in first else by_case.get(folder.casefold())
        if other is not None and (other != folder or first[other] != label):
            return (
                f'{names[0]} has the folder {other} as class {first[other]}, {names[1]} {folder} as '
                f'class {label}'
            )
    return None


def _misplaced(folders: Mapping[str, int], dataset: Any) -> tuple[str, int, str] | None:
    """Return the first of the listed files whose label is not that of the folder that it is in."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    for index in range(min(len(dataset), MOST_SAMPLES)):
        info = dataset.get_data_info(index)
        path, label = info.get('img_path'), info.get('gt_label')
        folder = os.path.basename(os.path.dirname(path)) if isinstance(path, str) else ''
        if isinstance(label, int) and folders.get(folder, label) != label:
            return path, label, folder
    return None
