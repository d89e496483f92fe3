"""Splits of data that has none, without the same scene on both sides."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Share of the samples that validate.
SHARE = 0.2
# Names are taken for those of sequences only if they tell several apart, and do not begin with the class.
FEWEST_SEQUENCES = 5
FEWEST_PER_CLASS = 3
LARGEST_SEQUENCE = 0.5
_COPY = re.compile(r'\.rf\.[0-9a-f]{8,}$', re.IGNORECASE)  # augmented copies of Roboflow
_NUMBER = re.compile(r'[-_. ]*(?:frame|frm|img|image)?[-_. ]*\d+$', re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """Which samples train and which validate.

    Attributes:
        train: places of the training samples, ascending.
        val: places of the others.
        text: how they were split.
    """

    train: list[int]
    val: list[int]
    text: str


def groups_of(names: Sequence[str], num_classes: int = 1) -> tuple[list[str], bool]:
    """Return the group of every name, and whether they are sequences.

    Images are of one sequence, as the frames of a video are, if they differ in the number at the end of
    their names alone, or lie in a folder of their own. Augmented copies of one image are always a group.

    Args:
        names: file names, relative to the folder of all of them (of a class, if there are class folders).
        num_classes: number of classes that occur.
    """
    fewest = max(FEWEST_SEQUENCES, FEWEST_PER_CLASS * num_classes)
    originals = [_COPY.sub('', os.path.splitext(name)[0]) for name in names]
    sequences = [_NUMBER.sub('', original) for original in originals]
    folders = [os.path.dirname(name) for name in names]
    for groups in (folders, sequences):
        counts = Counter(groups)
        largest = counts.most_common(1)[0][1]
        if fewest <= len(counts) < len(set(originals)) and largest <= LARGEST_SEQUENCE * len(names):
            return groups, True
    return originals, False


def split_samples(
    names: Sequence[str], labels: Sequence[Sequence[int]], share: float = SHARE, seed: int = 0
) -> Split:
    """Split samples by groups, with about the same share of every class.

    Args:
        names: their file names, see :func:`groups_of`.
        labels: classes in each sample: one, several or none.
        share: share of the samples that validate.
        seed: seed of the choice.

    Raises:
        ValueError: there are fewer than two groups.
    """
    # Images of one class each are often called like it.
    is_one_each = all(len(found) == 1 for found in labels)
    number = len({label for found in labels for label in found}) if is_one_each else 1
    groups, are_sequences = groups_of(names, number)
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    if len(members) < 2:
        raise ValueError(
            f'{len(names)} samples of one sequence cannot be split: give a validation split of other images'
        )
    chosen = _choose(members, labels, share, seed)
    val = sorted(place for group in chosen for place in members[group])
    held = set(val)
    train = [place for place in range(len(names)) if place not in held]
    what = f'{len(val)} of {len(names)} samples validate, chosen at random (seed {seed})'
    if are_sequences:
        what += f'; {len(members)} sequences, told by file names or folders, stay together'
    return Split(train, val, what)


def _choose(
    members: dict[str, list[int]], labels: Sequence[Sequence[int]], share: float, seed: int
) -> set[str]:
    """Return the groups that validate.

    The rarest classes are served first. A group is taken if that brings the shares of its classes closer to
    the wanted one, and never the last group of a class.
    """
    generator = np.random.default_rng(seed)
    counts = {
        group: Counter(label for place in places for label in labels[place])
        for group, places in members.items()
    }
    total = Counter(label for found in labels for label in found)
    left = Counter(label for found in counts.values() for label in found)  # groups of each class that train
    taken: Counter[int] = Counter()
    number, wanted = 0, share * len(labels)
    names = list(members)
    order = [names[place] for place in generator.permutation(len(names))]
    with_label: dict[int, list[str]] = defaultdict(list)
    for group in order:
        for label in counts[group]:
            with_label[label].append(group)
    chosen: set[str] = set()

    def gain(group: str) -> float:
        before = sum(abs(taken[label] / total[label] - share) for label in counts[group])
        after = sum(abs((taken[label] + n) / total[label] - share) for label, n in counts[group].items())
        return before - after

    def take(group: str) -> None:
        nonlocal number
        chosen.add(group)
        taken.update(counts[group])
        left.subtract(counts[group].keys())
        number += len(members[group])

    def is_spare(group: str) -> bool:
        return group not in chosen and all(left[label] > 1 for label in counts[group])

    for label, _ in sorted(total.items(), key=lambda item: (item[1], item[0])):
        for group in with_label[label]:
            if taken[label] / total[label] >= share * 0.75:
                break
            if is_spare(group) and gain(group) > 0:
                take(group)
    for group in order:  # samples without a class, and what the classes leave open
        if number >= wanted or number + len(members[group]) > max(1.5 * wanted, 1):
            continue
        if is_spare(group) and gain(group) >= 0:
            take(group)
    if not chosen:
        take(
            min(
                (group for group in order if is_spare(group)),
                key=lambda group: len(members[group]),
                default=order[0],
            )
        )
    return chosen
