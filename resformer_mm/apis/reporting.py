"""Predictions as text, at one resolution or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from resformer_mm.inference.base import ResolutionInferencer
from resformer_mm.inference.sources import Inputs
from resformer_mm.text import table


def predict_at_resolutions(
    inferencer: ResolutionInferencer,
    inputs: Inputs,
    resolutions: Sequence[int | None],
    out_dir: str | Path | None = None,
    **kwargs,
) -> dict[int | None, dict]:
    """Return the results of an inferencer, by resolution.

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
        results[resolution] = inferencer(inputs, resolution=resolution, out_dir=folder, **kwargs)
    return results


def format_results(inferencer: ResolutionInferencer, results: Mapping[int | None, dict]) -> str:
    """Return the predictions as text: a line per input, or a table with a column per resolution."""
    if len(results) == 1:
        (result,) = results.values()
        return '\n'.join(
            f'{path}: {_describe(inferencer, predictions)}' for path, predictions in _by_path(result)
        )
    columns = [dict(_by_path(result)) for result in results.values()]
    rows = [[path, *(_brief(inferencer, column[path]) for column in columns)] for path in columns[0]]
    return table(['', *map(str, results)], rows, markdown=True)


def format_summary(result: dict) -> str:
    """Return the number of predictions and the skipped files: '12 done, 1 skipped: a.jpg (reason)'."""
    skipped = result['skipped']
    names = ', '.join(f'{Path(entry["path"]).name} ({entry["reason"]})' for entry in skipped)
    return f'{len(result["predictions"])} done, {len(skipped)} skipped{": " if names else ""}{names}'


def format_cascade(result: dict) -> str:
    """Return the mean cost of a cascade, and the share of images that reached each resolution."""
    cost = result['cascade']
    parts = ', '.join(f'{100 * part:.0f} % reached {r}' for r, part in cost['reached'].items())
    return f'{cost["mean_gflops"]:.4g} GFLOPs per image; {parts}'


def _by_path(result: dict) -> list[tuple[str, list[dict]]]:
    """Return the predictions of each file: one for an image, one per frame for a video."""
    groups = groupby(result['predictions'], lambda prediction: prediction['path'])
    return [(path, list(group)) for path, group in groups]


def _describe(inferencer: ResolutionInferencer, predictions: list[dict]) -> str:
    if 'frame' not in predictions[0]:
        return inferencer.describe(predictions[0])
    counts = Counter(map(inferencer.headline, predictions)).most_common(5)
    return f'{len(predictions)} frames: ' + ', '.join(f'{name} in {number}' for name, number in counts)


def _brief(inferencer: ResolutionInferencer, predictions: list[dict]) -> str:
    if 'frame' in predictions[0]:
        return _describe(inferencer, predictions)
    entries = inferencer.entries(predictions[0])
    return inferencer.headline(predictions[0]) + (f' {entries[0][1]:.3f}' if entries else '')
