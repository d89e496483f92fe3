"""Names of the files in errors that a pipeline or a model raises."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .classes import innermost

PATH_FIELDS = ('img_path', 'filename', 'frame_dir')
_MOST_NAMES = 4


class NameFilesHook(Hook):
    """Add the paths of the files to every error of a transform, or of a step of the model.

    Transforms of mmcv and layers of PyTorch do not know the files, and one image of unusual shape may end
    a long run. The type of the error stays.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Watch the training step and its data."""
        _watch(runner.model, 'train_step', [runner.train_dataloader])

    def before_val(self, runner: Runner) -> None:
        """Watch the validation step and its data."""
        _watch(runner.model, 'val_step', loaders_of(runner.val_loop))

    def before_test(self, runner: Runner) -> None:
        """Watch the test step and its data."""
        _watch(runner.model, 'test_step', loaders_of(runner.test_loop))


class NamingCompose(Compose):
    """A pipeline whose errors name the file of the sample."""

    def __call__(self, data: dict) -> dict | None:
        """Apply the transforms."""
        path = path_of(data)
        try:
            return super().__call__(data)
        except Exception as error:
            add_names(error, [path])
            raise


def add_names(error: Exception, paths: Iterable[str | None]) -> None:
    """Append paths to the message of an error, unless it has one of them."""
    known = [path for path in paths if path]
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if not known or any(path in text for path in known):
        return
    more = f' and {len(known) - _MOST_NAMES} more' if len(known) > _MOST_NAMES else ''
    error.args = (f'{text.rstrip()} (file: {", ".join(known[:_MOST_NAMES])}{more})', *error.args[1:])


def path_of(sample: Any) -> str | None:
    """Return the path of a sample, a mapping or a data sample; None if it is not known."""
    found = (sample.get(field) for field in PATH_FIELDS)
    return next((value for value in found if isinstance(value, str)), None)


def paths_in(batch: Any) -> list[str]:
    """Return the paths of the samples in a batch, each once.

    The samples may be in lists of copies, in the branches of semi-supervised training, and absent there.
    """
    return list(dict.fromkeys(_paths_in(batch)))


def _paths_in(value: Any) -> Iterator[str]:
    path = path_of(value) if hasattr(value, 'get') else None
    if path is not None:
        yield path
    elif isinstance(value, (Mapping, list, tuple)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _paths_in(entry)


def explain_sizes(error: Exception, inputs: Any, mode: str) -> None:
    """Append what to do to the message of an error that a batch of several sizes raised.

    Args:
        error: the error.
        inputs: images of the batch.
        mode: 'val' or 'test', for the field of the data loader.
    """
    images = inputs if isinstance(inputs, (list, tuple)) else ()  # a tensor has one size
    sizes = {tuple(image.shape[-2:]) for image in images if hasattr(image, 'shape')}
    # As mmsegmentation and torch.stack say it; other libraries pad the images of a batch.
    if len(sizes) > 1 and re.search('image size in a batch|to be equal size', str(error)):
        shown = ', '.join(f'{height} x {width}' for height, width in sorted(sizes)[:_MOST_NAMES])
        error.args = (
            f'{error} The images of this batch have several sizes ({shown}): set '
            f'{mode}_dataloader.batch_size=1, or resize them to one size in its pipeline',
        )


def loaders_of(loop: Any) -> list[DataLoader]:
    """Return the data loaders of an evaluation loop, one per resolution."""
    return list(getattr(loop, 'loaders', {}).values()) or [loop.dataloader]


def _watch(model: Any, step: str, loaders: list[DataLoader]) -> None:
    function = getattr(model, step)
    if not hasattr(function, '__wrapped__'):
        setattr(model, step, _naming(function))
    for loader in loaders:
        dataset: Any
        for dataset in innermost(loader.dataset):
            if type(getattr(dataset, 'pipeline', None)) is Compose:
                dataset.pipeline = NamingCompose(dataset.pipeline.transforms)


def _naming(step: Callable) -> Callable:
    @wraps(step)
    def named(data: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(data, *args, **kwargs)
        except Exception as error:
            if step.__name__ != 'train_step' and isinstance(data, Mapping):
                explain_sizes(error, data.get('inputs'), step.__name__.removesuffix('_step'))
            add_names(error, paths_in(data))
            raise

    return named
