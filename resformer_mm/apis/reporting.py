"""Predictions as text, at one resolution or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from resformer_mm.control_characters import printable, printable_name
from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.sources import Inputs
from resformer_mm.text import table


@dataclass(frozen=True)
class Described:
    """A prediction as text, which takes little memory.

    Attributes:
        path: the input; None for an array.
        frame: frame number in a video.
        resolution: test resolution in pixels.
        headline: the prediction in a few words.
        line: the largest entries of the prediction.
        brief: the headline with the score of the largest entry.
    """

    path: str | None
    frame: int | None
    resolution: int
    headline: str
    line: str
    brief: str


def describe_predictions(inferencer: ResolutionInferencer, inputs: Inputs, **kwargs) -> dict:
    """Return the results of an inferencer with :class:`Described` predictions, which are not kept otherwise.

    Args:
        inferencer: an inferencer of any task.
        inputs: inputs of the inferencer.
        **kwargs: further arguments of :meth:`ResolutionInferencer.stream`.
    """
    stream = inferencer.stream(inputs, **kwargs)
    described = [_describe(inferencer, result.prediction) for result in stream]
    return {'predictions': described, 'skipped': stream.skipped, 'forward_ms': stream.forward_ms}


def predict_at_resolutions(
    inferencer: ResolutionInferencer,
    inputs: Inputs,
    resolutions: Sequence[int | None],
    out_dir: str | Path | None = None,
    **kwargs,
) -> dict[int | None, dict]:
    """Return the results of :func:`describe_predictions`, by resolution.

    Args:
        inferencer: an inferencer of any task.
        inputs: inputs of the inferencer.
        resolutions: resolutions in pixels; None is the resolution of the config.
        out_dir: folder of the results; with several resolutions, each has a subfolder named after it.
        **kwargs: further arguments of a call of the inferencer.

    Raises:
        ValueError: a resolution is not a positive integer, or below one patch.
    """
    for resolution in resolutions:
        inferencer.make_pipeline(resolution)  # raises before anything is predicted
    results = {}
    for resolution in resolutions:
        folder = out_dir
        if out_dir is not None and len(resolutions) > 1:
            folder = Path(out_dir) / str(resolution)
        options = dict(kwargs, resolution=resolution, out_dir=folder)
        results[resolution] = describe_predictions(inferencer, inputs, **options)
    return results


def format_results(results: Mapping[int | None, dict]) -> str:
    """Return described predictions as text: a line per input, or a table with a column per resolution."""
    columns = [dict(_by_path(result)) for result in results.values()]
    if len(columns) == 1:
        lines = (f'{printable_name(path)}: {_line(described)}' for path, described in columns[0].items())
        return printable('\n'.join(lines))
    paths = list(dict.fromkeys(path for column in columns for path in column))
    rows = [[path, *(_brief(column.get(path)) for column in columns)] for path in paths]
    return table(['', *map(str, results)], rows, markdown=True)


def format_summary(result: dict) -> str:
    """Return the number of predictions and the skipped files: '12 done, 1 skipped: a.jpg (reason)'."""
    skipped = result['skipped']
    names = ', '.join(f'{Path(entry["path"]).name} ({entry["reason"]})' for entry in skipped)
    names = printable(names)
    return f'{len(result["predictions"])} done, {len(skipped)} skipped{": " if names else ""}{names}'


def format_cascade(cost: Mapping) -> str:
    """Return the mean cost of a cascade, and the share of images that reached each resolution."""
    parts = ', '.join(f'{100 * part:.0f} % reached {r}' for r, part in cost['reached'].items())
    return f'{cost["mean_gflops"]:.4g} GFLOPs per image; {parts}'


def _by_path(result: dict) -> list[tuple[str | None, list[Described]]]:
    """Return the predictions of each file: one for an image, one per frame for a video."""
    groups = groupby(result['predictions'], lambda described: described.path)
    return [(path, list(group)) for path, group in groups]


def _describe(inferencer: ResolutionInferencer, prediction: dict) -> Described:
    entries = inferencer.entries(prediction)
    headline = inferencer.headline(prediction)
    return Described(
        prediction['path'],
        prediction.get('frame'),
        prediction['resolution'],
        headline,
        inferencer.describe(prediction),
        headline + (f' {entries[0][1]:.3f}' if entries else ''),
    )


def _line(described: Sequence[Described]) -> str:
    if described[0].frame is None:
        return described[0].line
    counts = Counter(frame.headline for frame in described).most_common(5)
    return f'{len(described)} frames: ' + ', '.join(f'{name} in {number}' for name, number in counts)


def _brief(described: Sequence[Described] | None) -> str:
    if not described:
        return 'skipped'
    return described[0].brief if described[0].frame is None else _line(described)
