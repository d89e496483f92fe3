"""The report of a sweep in experiment trackers."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import numpy as np
from mmengine.visualization import Visualizer
from PIL import Image

from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.tracking import settle_trackers, tracker_errors, tracker_settings
from resformer_mm.tracking.logging import log_by_resolution, log_picture, log_table

from .record import SweepError
from .summary import COSTS, Summary
from .tables import table_rows


class SweepTracker:
    """Logs the report of a sweep to the trackers of a config, as a run of its own.

    Make it before the sweep, so that a missing package stops the command at once. The run begins when the
    report is logged.

    Args:
        config: config file with the trackers, in ``visualizer.vis_backends``.
        out_dir: folder of the sweep.
        cfg_options: overrides of the config.

    Raises:
        SweepError: the config names no tracker.
        FileNotFoundError: the config does not exist.
        ImportError: the package of a tracker is not installed.
        ValueError: the config is not valid.
    """

    def __init__(self, config: str, out_dir: Path, cfg_options: dict | None = None) -> None:
        self.cfg = read_config(config, cfg_options)
        enter_scope(self.cfg)
        settle_trackers(self.cfg)
        self.cfg.work_dir = str(out_dir)
        if not tracker_settings(self.cfg):
            raise SweepError(
                f'--track: {config} names no tracker: add e.g. `--cfg-options visualizer.vis_backends='
                'LocalVisBackend,TensorboardVisBackend`'
            )

    def log(self, summary: Summary, picture: Path) -> None:
        """Log the metrics and costs of every model by resolution, the picture and the table.

        Args:
            summary: the report.
            picture: the file of the picture.

        Raises:
            TrackerError: a tracker cannot begin a run.
        """
        enter_scope(self.cfg)
        visualizer = Visualizer(
            name=f'sweep-{time.time()}',
            vis_backends=deepcopy(tracker_settings(self.cfg)),
            save_dir=self.cfg.work_dir,
        )
        try:
            with tracker_errors():
                visualizer.add_config(self.cfg)
            for model in summary.samples:
                rows = [row for row in summary.rows if row.model == model]
                for metric in summary.metrics:
                    values = {row.resolution: row.metrics[metric] for row in rows}
                    log_by_resolution(visualizer, f'sweep/{model}/{metric}', values)
                for cost in COSTS:
                    values = {row.resolution: getattr(row, cost) for row in rows}
                    log_by_resolution(visualizer, f'sweep/{model}/{cost}', values)
            with Image.open(picture) as image:
                log_picture(visualizer, 'sweep', np.asarray(image.convert('RGB')), 0)
            log_table(visualizer, 'sweep_table', table_rows(summary))
        finally:
            visualizer.close()
