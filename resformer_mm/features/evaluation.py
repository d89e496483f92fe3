"""Accuracy of nearest neighbours and of a linear probe at every resolution."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resformer_mm.files import write_atomically, write_csv
from resformer_mm.measured import for_json
from resformer_mm.text import table

from .data import TRAIN, VAL
from .neighbours import NUMBER, TEMPERATURE, nearest_neighbours
from .probe import fit_probe, split_training
from .storage import Features

NEIGHBOURS, PROBE = 'k-NN', 'linear probe'


@dataclass(frozen=True)
class Score:
    """Accuracy of a classifier on the validation images.

    Attributes:
        resolution: in pixels.
        features: 'class_token' or 'patch_mean'.
        classifier: 'k-NN' or 'linear probe'.
        correct: number of images classified correctly.
        samples: number of validation images.
        setting: number of neighbours, or C of the probe.
        note: what to know of it.
    """

    resolution: int
    features: str
    classifier: str
    correct: int
    samples: int
    setting: float
    note: str = ''

    @property
    def accuracy(self) -> float:
        """Accuracy in percent."""
        return 100 * self.correct / self.samples

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy in percent, ``sqrt(p (1 - p) / n)``."""
        share = self.correct / self.samples
        return 100 * math.sqrt(share * (1 - share) / self.samples)


@dataclass(frozen=True)
class Evaluation:
    """Scores of features.

    Attributes:
        scores: the scores, by resolution and kind of features.
        majority: accuracy in percent of always naming the most frequent class of the training images.
        notes: what to know of all of them.
    """

    scores: list[Score]
    majority: float
    notes: tuple[str, ...]

    def text(self) -> str:
        """Return a table for a terminal, and the notes."""
        methods = list(dict.fromkeys(score.classifier for score in self.scores))
        cells = {(score.resolution, score.features, score.classifier): score for score in self.scores}
        rows = []
        for side, kind in dict.fromkeys((score.resolution, score.features) for score in self.scores):
            found = [cells[side, kind, method] for method in methods]
            values = [f'{score.accuracy:.1f} ± {score.standard_error:.1f}' for score in found]
            rows.append([side, kind.replace('_', ' '), *values, f'{found[-1].setting:g}'])
        drawn = table(['resolution', 'features', *methods, 'C of the probe'], rows, markdown=False)
        noted = [score for score in self.scores if score.note]
        remarks = [f'{score.resolution}, {score.features}: {score.note}' for score in noted]
        lines = [*self.notes, *remarks]
        return '\n'.join([drawn, *(f'- {line}' for line in lines)])

    def write(self, folder: Path, settings: dict[str, Any]) -> list[Path]:
        """Write ``scores.csv`` and ``scores.json`` to a folder; return their paths.

        Args:
            folder: the folder.
            settings: what the features depend on.
        """
        rows = [
            {**asdict(score), 'accuracy': score.accuracy, 'standard_error': score.standard_error}
            for score in self.scores
        ]
        paths = [folder / 'scores.csv', folder / 'scores.json']
        write_csv(paths[0], rows)
        content = dict(scores=rows, majority=self.majority, notes=list(self.notes), settings=settings)
        with write_atomically(paths[1]) as partial:
            partial.write_text(json.dumps(for_json(content), indent=2) + '\n', encoding='utf-8')
        return paths


def evaluate(features: Features, number: int = NUMBER, temperature: float = TEMPERATURE) -> Evaluation:
    """Classify the validation images by the training images, at every resolution.

    Args:
        features: the features.
        number: number of neighbours; all training images, if there are fewer.
        temperature: temperature of their votes.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: there are no training or no validation images, or they cannot be used.
    """
    splits = np.array(features.splits)
    train, val = np.flatnonzero(splits == TRAIN), np.flatnonzero(splits == VAL)
    if not len(train) or not len(val):
        raise ValueError(f'{len(train)} training and {len(val)} validation images: both are needed')
    labels, wanted = features.labels[train], features.labels[val]
    neighbours = min(number, len(train))
    split = split_training([features.paths[place] for place in train], labels.tolist())
    scores = []
    for (side, kind), values in features.values.items():
        known, queries = values[train], values[val]
        found = nearest_neighbours(known, labels, queries, neighbours, temperature)
        scores.append(_score(side, kind, NEIGHBOURS, found == wanted, neighbours))
        probe = fit_probe(known, labels, split)
        note = '' if probe.has_converged else 'the probe has not converged'
        scores.append(_score(side, kind, PROBE, probe.predict(queries) == wanted, probe.strength, note))
    frequent = np.bincount(labels).argmax()
    majority = 100 * float((wanted == frequent).mean())
    notes = (
        f'{len(train)} training and {len(val)} validation images of {len(features.classes)} classes; '
        f'the most frequent class alone: {majority:.1f}',
        f'accuracy in percent ± its standard error; k-NN with {neighbours} neighbours, cosine similarity and '
        f'temperature {temperature:g}; C chosen on {len(split.val)} of the training images',
    )
    return Evaluation(scores, majority, notes)


def _score(
    side: int, kind: str, method: str, is_correct: Sequence[bool] | np.ndarray, setting: float, note: str = ''
) -> Score:
    return Score(side, kind, method, int(np.sum(is_correct)), len(is_correct), setting, note)
