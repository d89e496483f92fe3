"""Record of a sweep as a JSON file, complete after every step."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from resformer_mm.files import write_atomically
from resformer_mm.measured import for_json

VERSION = 1


class SweepError(ValueError):
    """A sweep cannot start or continue; the message says why and what to do."""


@dataclass
class Point:
    """Measurements of a model at a resolution; None or empty if not measured yet.

    Attributes:
        metrics: metrics of the evaluator of the config.
        flops: multiply-adds per sample.
        peak_memory: peak memory of a forward pass in bytes, without the weights; always None for exported
            files.
        latency: seconds per sample of every call, one list per round.
        tokens: patch tokens of an image or frame, the mean over the sampled batches; only measured where the
            patch size is an axis of the sweep.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    flops: float | None = None
    peak_memory: int | None = None
    latency: list[list[float]] = field(default_factory=list)
    tokens: float | None = None

    @property
    def gflops(self) -> float:
        """Multiply-adds per sample, in units of 10^9; NaN if not measured yet."""
        return math.nan if self.flops is None else self.flops / 1e9

    @property
    def memory_mib(self) -> float:
        """Peak memory in MiB; NaN if not measured yet."""
        return math.nan if self.peak_memory is None else self.peak_memory / 2**20

    def latency_ms(self, quantile: float = 0.5) -> float:
        """Return the median or another quantile of all calls, in milliseconds per sample."""
        calls = sorted(1e3 * seconds for round_ in self.latency for seconds in round_)
        if quantile == 0.5:
            return statistics.median(calls)
        return calls[round(quantile * (len(calls) - 1))]


@dataclass
class SweptModel:
    """Measurements of a model.

    Attributes:
        name: its name in tables and pictures.
        config: config file.
        checkpoint: checkpoint file.
        fingerprint: hash of the config's content and of the weights.
        trained_on: resolutions it was trained on, if the config lists them as ``resolutions``.
        parameters: number of parameters.
        samples: number of samples it was evaluated on, 0 before the first evaluation.
        points: resolution -> measurements.
        exported: the exported file that was measured in the place of the checkpoint; '' for a checkpoint.
        runtime: name and version of the runtime of the exported file.
        file_size: size of the exported file in bytes.
        patches: of a model at one patch size, 'patch_size' or 'tokens' and its value; empty for a model with
            the patches of its config.
        of_model: name of the model without the patch size; '' for a model with the patches of its config.
    """

    name: str
    config: str
    checkpoint: str
    fingerprint: str
    trained_on: list[int] = field(default_factory=list)
    parameters: int = 0
    samples: int = 0
    points: dict[int, Point] = field(default_factory=dict)
    exported: str = ''
    runtime: str = ''
    file_size: int = 0
    patches: dict[str, int] = field(default_factory=dict)
    of_model: str = ''

    @property
    def file_mib(self) -> float:
        """Size of the exported file in MiB; NaN for a checkpoint."""
        return self.file_size / 2**20 if self.exported else math.nan

    def is_counted(self, point: Point) -> bool:
        """Whether operations and memory of a point were measured."""
        return point.flops is not None and (bool(self.exported) or point.peak_memory is not None)

    def is_complete(self, point: Point) -> bool:
        """Whether everything was measured at a point."""
        return bool(point.metrics and point.latency) and self.is_counted(point)

    def sorted_points(self) -> Iterator[tuple[int, Point]]:
        """Yield resolution and point, low to high."""
        yield from sorted(self.points.items())


@dataclass
class SweepRecord:
    """Measurements of a sweep.

    Attributes:
        conditions: what the costs depend on, e.g. device, threads, precision, batch size.
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
        """Write the file atomically, so that an interrupted sweep leaves the last complete one."""
        content = asdict(self)
        for model in content['models']:
            if not model['patches']:  # what only sweeps over patch sizes have
                del model['patches'], model['of_model']
                for point in model['points'].values():
                    del point['tokens']
        with write_atomically(path) as partial:
            partial.write_text(json.dumps(for_json({'version': VERSION, **content}), indent=1))

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
                for point in points.values():  # JSON has no NaN
                    point.metrics = {
                        name: math.nan if value is None else value for name, value in point.metrics.items()
                    }
                models.append(SweptModel(**model, points=points))
            return cls(content['conditions'], models)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise SweepError(
                f'{path} is not the record of a sweep ({error}): delete it to start over'
            ) from error

    def resume_from(self, path: Path) -> None:
        """Adopt the measurements of an earlier sweep in the same folder.

        Raises:
            SweepError: a model of the same name differs, or the conditions do.
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
                files = ', '.join(filter(None, (before.config, before.checkpoint, before.exported)))
                changed_parts = (
                    'config, checkpoint, exported file or runtime'
                    if before.exported
                    else ('config or checkpoint')
                )
                raise SweepError(
                    f'{path} holds figures of another {model.name!r}: its {changed_parts} has changed since '
                    f'({files}). Choose another --out-dir or --names'
                )
            model.samples, model.points = before.samples, before.points
        self.models += known.values()  # models of earlier sweeps only stay in the report


def outcome_path(out_dir: Path, name: str, resolution: int) -> Path:
    """Return the path of the per-sample outcomes of a model at a resolution."""
    return out_dir / 'outcomes' / name / f'{resolution}.npz'


def unique_names(names: Sequence[str]) -> list[str]:
    """Return different names: repeated ones are numbered."""
    result = []
    for name in names:
        number, candidate = 2, name
        while candidate in result:
            candidate, number = f'{name} ({number})', number + 1
        result.append(candidate)
    return result
