"""Objects that several slices of an image show, found by comparing what both slices see.

A detection is *cut* if it touches a border of its slice that is not a border of the image. Detections of one
class from two slices that overlap are one object

1. if both are complete and their boxes agree (IoU);
2. if one is cut and mostly lies in the complete one. The complete one is kept. An object that is smaller
   than the overlap is complete in some slice;
3. if both are cut, and their masks, or boxes without masks, agree in the part of the image that both slices
   show (intersection over the smaller one). These are the parts of an object that no slice shows as a whole:
   the union is kept.

In 1 and 3, the pairs that agree best come first, and an object has at most one detection per slice, because
detections of one slice are different objects for the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

AGREEMENT = 0.5
_MARGIN = 0.02  # part of a slice's side up to which a box touches its border
_LARGEST_MARGIN = 0.25  # part of the overlap


@dataclass(frozen=True)
class Detections:
    """The detections on all slices, in pixels of the image.

    Attributes:
        boxes: ``(N, 4)``, left, top, right, bottom.
        labels: ``(N,)``.
        scores: ``(N,)``.
        slices: number of the slice of each, ``(N,)``, in rising order.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    slices: np.ndarray


@dataclass(frozen=True)
class SeenObject:
    """One object.

    Attributes:
        parts: the detections that make up its box and mask: one, or several that are cut.
        score: the best score of all its detections.
    """

    parts: list[int]
    score: float


def border_margin(size: int, overlap: float) -> float:
    """Return the distance in pixels from the border of a slice up to which a box touches it.

    Args:
        size: side of a slice in pixels.
        overlap: part of a slice that the next one also shows.
    """
    return max(1.0, min(_MARGIN, _LARGEST_MARGIN * overlap) * size)


def find_objects(
    found: Detections,
    regions: np.ndarray,
    extent: np.ndarray,
    margin: float,
    compare_masks: Callable[[int, int], tuple[float, float] | None] | None = None,
) -> list[SeenObject]:
    """Return the objects, best score first; see the module for the rule.

    Args:
        found: the detections.
        regions: left, top, right and bottom of every slice, ``(S, 4)``.
        extent: left, top, right and bottom of the image, ``(4,)``.
        margin: see :func:`border_margin`.
        compare_masks: function from two detections to what their masks have in common where both slices show
            the image, as part of the smaller one and of their union; None where they show nothing of them.
    """
    # With the first two coordinates negated, every border is on the upper side.
    sign = np.array([-1, -1, 1, 1])
    own = regions[found.slices]
    touches = (own != extent) & (found.boxes * sign >= own * sign - margin)
    is_cut = touches.any(1)
    # Nobody knows how far a cut object goes on: beyond its slice, its box has the same sides.
    continued = np.where(touches, own + sign * margin, found.boxes)
    groups = _Groups(found)
    pairs = list(_neighbours(found.slices, regions + sign * margin))
    candidates: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first, second, _ in pairs:
        one, other = _of_one_class(found.labels, first[~is_cut[first]], second[~is_cut[second]])
        shared, areas = _areas(found.boxes[one], found.boxes[other])
        agreement = shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)
        candidates.append((agreement, one, other))
    groups.unite(*_best(candidates))
    candidates = []
    for first, second, _ in pairs:
        for cut, whole in ((first, second), (second, first)):
            one, other = _of_one_class(found.labels, cut[is_cut[cut]], whole[~is_cut[whole]])
            shared, areas = _areas(found.boxes[one], found.boxes[other])
            candidates.append((shared / np.maximum(areas[0], 1e-9), one, other))
    groups.absorb(*_best(candidates))
    candidates, order = [], []
    for first, second, common in pairs:
        open_first, open_second = groups.free(first[is_cut[first]]), groups.free(second[is_cut[second]])
        one, other = _of_one_class(found.labels, open_first, open_second)
        shared, areas = _areas(_clip(continued[one], common), _clip(continued[other], common))
        agreement = shared / np.maximum(np.minimum(*areas), 1e-9)
        closeness = shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)
        if compare_masks is not None:
            for number in np.flatnonzero(shared):
                values = compare_masks(int(one[number]), int(other[number]))
                if values is not None:
                    agreement[number], closeness[number] = values
        candidates.append((agreement, one, other))
        order.append(closeness)
    groups.unite(*_best(candidates, order))
    return groups.objects(is_cut)


class _Groups:
    """Detections that are one object."""

    def __init__(self, found: Detections) -> None:
        self._found = found
        self._members = {number: [number] for number in range(len(found.boxes))}
        self._group = list(range(len(found.boxes)))
        self._absorbed: set[int] = set()

    def free(self, numbers: np.ndarray) -> np.ndarray:
        """Return those that are not absorbed."""
        return np.array([number for number in numbers.tolist() if number not in self._absorbed], int)

    def unite(self, ones: list[int], others: list[int]) -> None:
        """Unite pairs in their order, unless a group would have two detections of one slice."""
        for one, other in zip(ones, others):
            kept, gone = self._group[one], self._group[other]
            slices = [
                {self._found.slices[member] for member in self._members[group]} for group in (kept, gone)
            ]
            if kept == gone or slices[0] & slices[1]:
                continue
            for member in self._members[gone]:
                self._group[member] = kept
            self._members[kept] += self._members.pop(gone)

    def absorb(self, cuts: list[int], wholes: list[int]) -> None:
        """Add every cut detection to the first complete one that it is paired with."""
        for cut, whole in zip(cuts, wholes):
            if cut not in self._absorbed:
                self._absorbed.add(cut)
                self._members[self._group[whole]] += self._members.pop(cut)

    def objects(self, is_cut: np.ndarray) -> list[SeenObject]:
        """Return the groups, best score first."""
        objects = []
        for members in self._members.values():
            scores = self._found.scores
            members = sorted(members, key=lambda member: -scores[member])
            wholes = [member for member in members if not is_cut[member]]
            objects.append(SeenObject(wholes[:1] or members, float(scores[members[0]])))
        return sorted(objects, key=lambda found: -found.score)


def _neighbours(
    slices: np.ndarray, regions: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the detections of every two slices with a common region, and that region."""
    numbers = np.unique(slices)
    starts = np.searchsorted(slices, [*numbers, numbers.max(initial=0) + 1])
    members = {
        number: np.arange(start, stop) for number, start, stop in zip(numbers.tolist(), starts, starts[1:])
    }
    for place, number in enumerate(numbers.tolist()):
        later = numbers[place + 1 :]
        common = _clip(regions[later], regions[number])
        overlapping = (common[:, 0] < common[:, 2]) & (common[:, 1] < common[:, 3])
        for other, region in zip(later[overlapping].tolist(), common[overlapping]):
            yield members[number], members[other], region


def _of_one_class(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs with the same label."""
    one, other = np.nonzero(labels[first][:, None] == labels[second])
    return first[one], second[other]


def _clip(boxes: np.ndarray, region: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [np.maximum(boxes[:, :2], region[:2]), np.minimum(boxes[:, 2:], region[2:])], axis=1
    )


def _areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the areas of the intersections of boxes, and of both."""
    common = np.concatenate(
        [np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])], axis=1
    )
    shared, one, other = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1) for boxes in (common, first, second))
    return shared, [one, other]


def _best(
    candidates: list[tuple[np.ndarray, np.ndarray, np.ndarray]], order: list[np.ndarray] | None = None
) -> tuple[list[int], list[int]]:
    """Return the pairs that agree, best first; ``order`` says what best is, by default the agreement."""
    if not candidates:
        return [], []
    agreement, one, other = (np.concatenate(column) for column in zip(*candidates))
    value = agreement if order is None else np.concatenate(order)
    chosen = np.flatnonzero(agreement >= AGREEMENT)
    chosen = chosen[np.argsort(-value[chosen], kind='stable')]
    return one[chosen].tolist(), other[chosen].tolist()
