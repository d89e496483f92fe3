"""Record of a sweep: a JSON file that is complete after every step."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from resformer_mm.files import write_atomically

VERSION = 1


class SweepError(ValueError):
    """A sweep cannot start or go on; the message says why and what to do."""


@dataclass
class Point:
    """One model at one resolution; None or empty is what has not been measured yet.

    Attributes:
        metrics: what the evaluator of the config says.
        flops: multiply-adds of one sample.
        peak_memory: bytes that one forward pass allocates at its peak, beyond the weights.
        latency: seconds per sample, one list of calls for every round.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    flops: float | None = None
    peak_memory: int | None = None
    latency: list[list[float]] = field(default_factory=list)

    @property
    def gflops(self) -> float:
        """Multiply-adds of one sample, in units of 10^9."""
        return self.flops / 1e9

    def latency_ms(self, quantile: float = 0.5) -> float:
        """Return the median or another quantile of all calls, in milliseconds per sample."""
        calls = sorted(1e3 * seconds for round_ in self.latency for seconds in round_)
        if quantile == 0.5:
            return statistics.median(calls)
        return calls[round(quantile * (len(calls) - 1))]


@dataclass
class SweptModel:
    """What was measured of one model.

    Attributes:
        name: its name in tables and pictures.
        config: config file.
        checkpoint: checkpoint file.
        fingerprint: hash of the config's content and of the weights.
        trained_on: resolutions it was trained on, if the config lists them as ``resolutions``.
        parameters: number of parameters.
        samples: number of samples it was evaluated on.
        points: resolution -> what was measured there.
    """

    name: str
    config: str
    checkpoint: str
    fingerprint: str
    trained_on: list[int] = field(default_factory=list)
    parameters: int | None = None
    samples: int | None = None
    points: dict[int, Point] = field(default_factory=dict)

    def sorted_points(self) -> Iterator[tuple[int, Point]]:
        """Yield resolution and point, low to high."""
        yield from sorted(self.points.items())


@dataclass
class SweepRecord:
    """All of a sweep.

    Attributes:
        conditions: what the costs depend on: device, threads, precision, batch size, versions.
        models: the models, in the order of the command line.
    """

    conditions: dict[str, str | int | bool]
    models: list[SweptModel] = field(default_factory=list)

    def metric_names(self) -> list[str]:
        """Return the metrics that every measured point has, in the order of the evaluator."""
        points = [point for model in self.models for point in model.points.values() if point.metrics]
        names = list(points[0].metrics) if points else []
        return [name for name in names if all(name in point.metrics for point in points)]

    def save(self, path: Path) -> None:
        """Write the file in one step, so that an interrupted sweep leaves the last complete one."""
        with write_atomically(path) as partial:
            partial.write_text(json.dumps({'version': VERSION, **asdict(self)}, indent=1))

    @classmethod
    def load(cls, path: Path) -> SweepRecord:
        """Read a record.

        Raises:
            SweepError: the file is damaged or of another version.
        """
        try:
            content = json.loads(path.read_text())
            if content['version'] != VERSION:
                raise SweepError(
                    f'{path} is of version {content["version"]}, not {VERSION}: use another folder'
                )
            models = []
            for model in content['models']:
                points = {int(key): Point(**point) for key, point in model.pop('points').items()}
                models.append(SweptModel(**model, points=points))
            return cls(content['conditions'], models)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SweepError(
                f'{path} is not the record of a sweep ({error}): delete it to start anew'
            ) from error

    def resume_from(self, path: Path) -> None:
        """Take over what an earlier, interrupted or smaller sweep in the same folder has measured.

        Raises:
            SweepError: it was another model under the same name, or measured under other conditions.
        """
        if not path.is_file():
            return
        earlier = SweepRecord.load(path)
        changed = [name for name, value in self.conditions.items() if earlier.conditions.get(name) != value]
        if changed:
            changes = ', '.join(
                f'{n}: {earlier.conditions.get(n)!r} then, {self.conditions[n]!r} now' for n in changed
            )
            raise SweepError(
                f'{path} was measured under other conditions ({changes}), with which these figures cannot be '
                'compared: choose another --out-dir, or delete the file'
            )
        known = {model.name: model for model in earlier.models}
        for model in self.models:
            before = known.pop(model.name, None)
            if before is None:
                continue
            if before.fingerprint != model.fingerprint:
                raise SweepError(
                    f'{path} holds figures of another {model.name!r}: its config or checkpoint has changed '
                    f'since ({before.config}, {before.checkpoint}). Choose another --out-dir or --names'
                )
            model.samples, model.points = before.samples, before.points
        self.models += known.values()  # what is not asked for this time stays in the report


def outcome_path(out_dir: Path, name: str, resolution: int) -> Path:
    """Return the file of the per-sample outcomes of a model at a resolution."""
    return out_dir / 'outcomes' / name / f'{resolution}.npz'


def fingerprint(config_text: str, state: Mapping[str, Tensor]) -> str:
    """Return a hash of the content of a config and of named weights."""
    digest = hashlib.sha256(config_text.encode())
    for name, value in state.items():
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names to tell models apart: repeated ones are numbered."""
    result = []
    for name in names:
        number, candidate = 2, name
        while candidate in result:
            candidate, number = f'{name} ({number})', number + 1
        result.append(candidate)
    return result
