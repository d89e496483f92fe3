"""Training hook that draws clips with their predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from PIL import Image
from torch.utils.data import Dataset

from resformer_mm.analysis.browsing import BrowsedSample, film_strip, label_texts
from resformer_mm.analysis.sample_pictures import draw_copies
from resformer_mm.picture_text import one_line
from resformer_mm.registry import HOOKS


@HOOKS.register_module()
class ClipVisualizationHook(Hook):
    """Draw the frames of clips in validation and tests, with label and prediction.

    Replaces mmaction2's ``VisualizationHook``, which cannot draw clips with a dimension of views (``NCTHW``)
    and uses label names that no longer exist in mmaction2 1.2.0.

    Args:
        enable: whether to draw.
        interval: number of clips of a process between two drawn clips.
        show: whether to open a window for each.
        wait_time: seconds for which a window is shown.
        out_dir: folder for the images, one per clip, named by its path below the data set's ``data_prefix``
            (``FOLDER_NAME.png``), with a number if it repeats; None passes them to the visualizer.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 5000,
        show: bool = False,
        wait_time: float = 2,
        out_dir: str | None = None,
    ) -> None:
        self.enable = enable
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self.out_dir = out_dir
        self._seen: Counter = Counter()  # by data set: several resolutions may be evaluated in turns
        self._drawn: Counter = Counter()

    def before_val_epoch(self, runner: Runner) -> None:
        """Reset the clip counter."""
        self._seen.clear()
        self._drawn.clear()

    def before_test_epoch(self, runner: Runner) -> None:
        """Reset the clip counter."""
        self._seen.clear()
        self._drawn.clear()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw every ``interval``-th clip."""
        self._draw_samples(runner, runner.val_dataloader.dataset, data_batch, outputs, runner.epoch)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        """Draw every ``interval``-th clip."""
        self._draw_samples(runner, runner.test_dataloader.dataset, data_batch, outputs, 0)

    def _draw_samples(
        self,
        runner: Runner,
        dataset: Dataset,
        data_batch: dict,
        outputs: Sequence[BaseDataElement],
        step: int,
    ) -> None:
        if not self.enable:
            return
        prefixes = [value for value in getattr(dataset, 'data_prefix', {}).values() if value]
        classes = (runner.visualizer.dataset_meta or {}).get('classes')
        for clip, sample in zip(data_batch['inputs'], outputs):
            if self._seen[id(dataset)] % self.interval == 0:
                picture = draw_prediction(clip[0].permute(1, 2, 3, 0).cpu().numpy(), sample, classes)
                self._put(runner.visualizer, picture, clip_name(sample, prefixes), step)
            self._seen[id(dataset)] += 1

    def _put(self, visualizer: Visualizer, picture: np.ndarray, name: str, step: int) -> None:
        if self.show:
            visualizer.show(picture, win_name=name, wait_time=self.wait_time)
        if self.out_dir is None:
            # mmaction2's own method would treat the image as the frames of a video.
            Visualizer.add_image(visualizer, name, picture, step)
            return
        path = Path(self.out_dir, f'{name}.png')
        self._drawn[path] += 1
        if self._drawn[path] > 1:
            path = path.with_name(f'{name}_{self._drawn[path]}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def clip_name(sample: BaseDataElement, prefixes: Sequence[str] = ()) -> str:
    """Return a name for a clip: the parts of its path below a prefix, joined by underscores.

    Args:
        sample: its data sample, with ``filename``, or ``frame_dir`` for a folder of frames.
        prefixes: folders to remove from the path. If none applies, the last two parts are used.
    """
    path = Path(sample.get('filename') or sample.get('frame_dir') or 'clip')
    path = path.with_suffix('') if 'filename' in sample else path
    for prefix in prefixes:
        if path.is_relative_to(prefix):
            return '_'.join(path.relative_to(prefix).parts)
    return '_'.join(part for part in path.parts[-2:] if part != path.anchor)


def draw_prediction(
    frames: np.ndarray, sample: BaseDataElement, classes: Sequence[str] | None = None
) -> np.ndarray:
    """Draw the frames of a clip with its label and the predicted class.

    Args:
        frames: RGB uint8 ``(T, h, w, 3)``.
        sample: its data sample, with ``pred_score`` and, if known, ``gt_label``.
        classes: class names; None shows class numbers.

    Returns:
        RGB uint8 ``(H, W, 3)``.
    """
    best = int(sample.pred_score.argmax())
    label = ' + '.join(label_texts(sample, classes)) or 'unknown'
    name = str(best) if classes is None else one_line(classes[best])
    text = f'label {label}, predicted {name} ({float(sample.pred_score[best]):.2f})'
    size = f'{len(frames)} × {frames.shape[2]} × {frames.shape[1]} px'
    return draw_copies(BrowsedSample(clip_name(sample), [film_strip(frames)], [text], sample, [size]))
