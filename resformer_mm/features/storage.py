"""Files of features: npz, which NumPy reads, or parquet, a row per image and resolution."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resformer_mm.files import write_atomically
from resformer_mm.measured import for_json

CLASS_TOKEN, PATCH_MEAN = 'class_token', 'patch_mean'
SUFFIXES = ('.npz', '.parquet')


@dataclass(frozen=True)
class Features:
    """Features of labelled images at several resolutions.

    Attributes:
        paths: the N files.
        labels: number of the class of each, ``(N,)``.
        splits: 'train' or 'val' for each.
        classes: names of the classes.
        values: (resolution in pixels, 'class_token' or 'patch_mean') -> ``(N, C)``, float32.
        settings: what they depend on: the model and the hash of its weights, the block, the pipeline.
    """

    paths: list[str]
    labels: np.ndarray
    splits: list[str]
    classes: tuple[str, ...]
    values: dict[tuple[int, str], np.ndarray]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def resolutions(self) -> list[int]:
        """The resolutions in their order."""
        return list(dict.fromkeys(side for side, _ in self.values))

    def save(self, path: str | Path) -> None:
        """Write them to a file that ends in ``.npz`` or ``.parquet``.

        Raises:
            ImportError: parquet needs pyarrow.
            ValueError: the file ends in something else.
        """
        path = check_feature_path(path)
        with write_atomically(path) as partial:
            if path.suffix == '.npz':
                self._write_npz(partial)
            else:
                self._write_parquet(partial)

    def _write_npz(self, path: Path) -> None:
        arrays = {f'{kind}_{side}': array for (side, kind), array in self.values.items()}
        columns: dict[str, Any] = dict(
            paths=np.array(self.paths, str),
            labels=self.labels,
            splits=np.array(self.splits, str),
            classes=np.array(self.classes, str),
            resolutions=np.array(self.resolutions),
            settings=np.array(json.dumps(for_json(self.settings))),
            **arrays,
        )
        np.savez(path, **columns)

    def _write_parquet(self, path: Path) -> None:
        pyarrow = import_pyarrow()
        from pyarrow import parquet

        sides = self.resolutions
        columns: dict[str, Any] = {
            'path': self.paths * len(sides),
            'label': np.tile(self.labels, len(sides)),
            'class': [self.classes[label] for label in self.labels] * len(sides),
            'split': self.splits * len(sides),
            'resolution': np.repeat(sides, len(self.paths)),
        }
        for kind in dict.fromkeys(kind for _, kind in self.values):
            rows = np.concatenate([self.values[side, kind] for side in sides])
            flat = pyarrow.array(rows.reshape(-1))
            columns[kind] = pyarrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        meta = dict(classes=json.dumps(list(self.classes)), settings=json.dumps(for_json(self.settings)))
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata(meta), path)


def read_features(path: str | Path) -> Features:
    """Read features from an npz file; nothing in it is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file of features.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        values = {
            (int(side), kind): stored[f'{kind}_{side}']
            for side in stored['resolutions']
            for kind in (CLASS_TOKEN, PATCH_MEAN)
            if f'{kind}_{side}' in stored
        }
        return Features(
            stored['paths'].tolist(),
            stored['labels'],
            stored['splits'].tolist(),
            tuple(stored['classes'].tolist()),
            values,
            json.loads(str(stored['settings'])),
        )
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f'{path} is not a file of features ({error}): write it with tools/features.py'
        ) from error


def check_feature_path(path: str | Path) -> Path:
    """Check the name of a file of features before the work, and return it.

    Raises:
        ImportError: parquet needs pyarrow.
        ValueError: it ends in something else than ``.npz`` or ``.parquet``.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path}: features are written to files that end in {" or ".join(SUFFIXES)}')
    if path.suffix == '.parquet':
        import_pyarrow()
    return path


def import_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        ImportError: it is missing.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            'parquet files need pyarrow: install it with `pip install pyarrow`, or write .npz'
        ) from error
    return pyarrow
