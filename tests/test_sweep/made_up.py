"""A sweep with figures made up for tests: two models, outcomes of every sample for the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resformer_mm.cascade import save_outcomes
from resformer_mm.sweep import Point, SweepRecord, SweptModel, outcome_path

RESOLUTIONS = (32, 64, 128)
SAMPLES = 400


def made_up_record(folder: Path) -> SweepRecord:
    """Return the record; accuracy rises with the resolution, and confidence tells right from wrong."""
    rng = np.random.default_rng(0)
    conditions = {'device': 'abacus', 'threads': 1, 'batch_size': 1}
    models = []
    for name, best in (('<b>sure</b>', 0.8), ('plain', 0.6)):
        model = SweptModel(name, 'a.py', 'a.pth', 'x', [64], parameters=1_000_000, samples=SAMPLES)
        ease = rng.random(SAMPLES)
        for step, resolution in enumerate(RESOLUTIONS):
            correct = ease < best * (0.6 + 0.2 * step)
            confidence = np.where(correct, 0.9, 0.3) + 0.1 * rng.random(SAMPLES)
            if name != 'plain':
                save_outcomes(outcome_path(folder, name, resolution), confidence, correct)
            metrics = {'accuracy/top1': 100 * float(correct.mean()), 'accuracy/top5': 90.0 + step}
            seconds = 0.002 * 4**step
            latency = [[seconds, 1.1 * seconds], [0.9 * seconds]]
            model.points[resolution] = Point(metrics, 1e9 * 4**step, 2**20 * 4**step, latency)
        models.append(model)
    return SweepRecord(conditions, models)
