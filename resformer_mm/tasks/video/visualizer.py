"""Visualizer of video classification."""

from __future__ import annotations

import inspect

from mmaction.structures import ActionDataSample
from mmaction.visualization import ActionVisualizer
from mmengine.dist import master_only

from resformer_mm.engine.pictures import PicturePerSample
from resformer_mm.picture_text import literal_text, one_line
from resformer_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class RecognitionVisualizer(PicturePerSample, ActionVisualizer):
    """Visualizer of mmaction2 that draws class names literally and makes one picture per sample."""

    @master_only
    def add_datasample(
        self,
        name: str,
        video: object,
        data_sample: ActionDataSample | None = None,
        *args,
        out_path: str | None = None,
        **kwargs,
    ) -> None:
        """Draw labels and predictions on the frames; see the base class."""
        with literal_text(*map(one_line, (self.dataset_meta or {}).get('classes') or ())):
            inspect.unwrap(ActionVisualizer.add_datasample)(
                self,
                self.picture_name(name, data_sample),
                video,
                data_sample,
                *args,
                out_path=self.picture_file(out_path, data_sample),
                **kwargs,
            )
