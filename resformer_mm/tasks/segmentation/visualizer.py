"""Visualizer of semantic segmentation."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
from mmengine.dist import master_only
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer

from resformer_mm.engine.pictures import PicturePerSample
from resformer_mm.inference.drawing import draw_label_map
from resformer_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class LabelMapVisualizer(PicturePerSample, SegLocalVisualizer):
    """Visualizer of mmsegmentation that draws faster, names in any script, and one picture per sample."""

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: SegDataSample | None = None,
        *args,
        out_file: str | None = None,
        **kwargs,
    ) -> None:
        """Draw annotation and prediction side by side; see the base class."""
        inspect.unwrap(SegLocalVisualizer.add_datasample)(
            self,
            self.picture_name(name, data_sample),
            image,
            data_sample,
            *args,
            out_file=self.picture_file(out_file, data_sample),
            **kwargs,
        )

    def _draw_sem_seg(
        self,
        image: np.ndarray,
        sem_seg: PixelData,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        with_labels: bool | None = True,
    ) -> np.ndarray:
        labels = np.asarray(sem_seg.cpu().data)[0]
        drawn = draw_label_map(
            np.ascontiguousarray(image), labels, palette, self.alpha, classes if with_labels else None
        )
        self.set_image(drawn)
        return drawn
