"""Names of the pictures that a test draws: one picture per sample."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path, PurePosixPath

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from resformer_mm.registry import HOOKS

from .classes import innermost
from .failures import path_of

WRITABLE = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
FOLDER_MARK = '__'
"""Separates the folders in the name of a picture."""
_LONGEST = 120  # bytes of the folders, since a name has at most 255


class PicturePerSample:
    """A mixin before a visualizer of a library, whose hooks name pictures by the file name alone.

    The names of the folders between the data set's folder and the image are put before the name, so that two
    images of one name are two pictures. A second sample of one image gets a number.

    Attributes:
        picture_root: the folder of the images of the data set; None keeps the names of the hook.
    """

    picture_root: str | None = None

    def start_pictures(self, root: str | None) -> None:
        """Start a new set of pictures."""
        self.picture_root = root
        self._pictures: Counter = Counter()

    def picture_file(self, file: str | None, sample: object) -> str | None:
        """Return where the picture of a sample is written, given the file that the hook chose."""
        if file is None or self.picture_root is None:
            return file
        chosen = Path(file)
        path = chosen.with_name(self._folders(sample) + chosen.name)
        if path.suffix[1:].isalnum() and path.suffix.lower() not in WRITABLE:
            path = path.with_name(f'{path.name}.png')
        return str(self._numbered(path))

    def picture_name(self, name: str, sample: object) -> str:
        """Return the name of a picture that is stored by its name, with the folders in it."""
        if self.picture_root is None:
            return name
        file = os.path.basename(path_of(sample) or '')
        folders = self._folders(sample)
        return name.replace(file, f'{folders}{file}') if file and name.endswith(file) else f'{folders}{name}'

    def _folders(self, sample: object) -> str:
        """Return the folders of an image as the beginning of a file name."""
        path = path_of(sample)
        if path is None or self.picture_root is None:
            return ''
        parent = PurePosixPath(path).parent
        if parent.is_relative_to(self.picture_root):
            parent = parent.relative_to(self.picture_root)
        folders = FOLDER_MARK.join(part for part in parent.parts if part not in ('/', '..', '.'))
        if len(folders.encode()) > _LONGEST:
            folders = hashlib.sha256(folders.encode()).hexdigest()[:12]
        return f'{folders}{FOLDER_MARK}' if folders else ''

    def _numbered(self, path: Path) -> Path:
        self._pictures[path] += 1
        number = self._pictures[path]
        return path if number == 1 else path.with_name(f'{path.stem}_{number}{path.suffix}')


@HOOKS.register_module()
class DrawOneViewHook(Hook):
    """Let the visualisation hooks of a test with augmentation draw each sample's first view without a flip.

    Their inputs are views of lists of images then, which the hooks of mmpretrain do not expect.
    """

    def before_test(self, runner: Runner) -> None:
        """Replace the batches that the hooks get."""
        for hook in runner.hooks:
            if type(hook).__name__.endswith('VisualizationHook'):
                hook.after_test_iter = _drawing_one_view(hook.after_test_iter)


def _drawing_one_view(draw: Callable) -> Callable:
    @wraps(draw)
    def drawing(runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence) -> None:
        draw(runner, batch_idx, _one_view(data_batch), outputs)

    return drawing


def _one_view(batch: dict) -> dict:
    views = list(zip(batch['inputs'], batch['data_samples']))
    if not views or isinstance(views[0][0], Tensor):
        return batch
    plain = [view for view in views if not any(sample.get('flip', False) for sample in view[1])]
    inputs, samples = (plain or views)[0]
    return {**batch, 'inputs': inputs, 'data_samples': samples}


@HOOKS.register_module()
class PictureNamesHook(Hook):
    """Tell the visualizer of a test where the images of its data set are."""

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the pictures of the test."""
        if isinstance(runner.visualizer, PicturePerSample):
            runner.visualizer.start_pictures(image_root([runner.test_dataloader]))


def image_root(loaders: Iterable[DataLoader]) -> str:
    """Return the folder that contains the images of all data sets, '' if there is none."""
    folders = set()
    for loader in loaders:
        for dataset in innermost(loader.dataset):
            prefixes = getattr(dataset, 'data_prefix', None) or {}
            folders |= {
                os.path.normpath(str(value))
                for key, value in prefixes.items()
                if value and not any(word in key for word in ('seg', 'ann', 'depth'))
            }
    try:
        return os.path.commonpath(folders) if folders else ''
    except ValueError:  # absolute and relative ones
        return ''
