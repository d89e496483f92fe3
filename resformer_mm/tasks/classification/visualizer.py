"""Visualizer of image classification."""

from __future__ import annotations

import inspect

import numpy as np
from mmengine.dist import master_only
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from resformer_mm.engine.pictures import PicturePerSample
from resformer_mm.picture_text import literal_text, one_line
from resformer_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class ClassVisualizer(PicturePerSample, UniversalVisualizer):
    """Visualizer of mmpretrain that draws class names literally and makes one picture per sample."""

    @master_only
    def visualize_cls(
        self,
        image: np.ndarray,
        data_sample: DataSample,
        classes: list[str] | None = None,
        *args,
        name: str = '',
        out_file: str | None = None,
        **kwargs,
    ) -> np.ndarray:
        """Draw labels and predictions; see the base class."""
        classes = classes or (self.dataset_meta or {}).get('classes')
        lines = None if classes is None else [one_line(entry) for entry in classes]
        with literal_text(*(lines or ())):
            # Without the restriction to the first process, which is that of this method.
            return inspect.unwrap(UniversalVisualizer.visualize_cls)(
                self,
                image,
                data_sample,
                lines,
                *args,
                name=self.picture_name(name, data_sample),
                out_file=self.picture_file(out_file, data_sample),
                **kwargs,
            )
