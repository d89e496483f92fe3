"""Video data sets from list files, with input validation."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import basename, dirname, join

import mmaction.datasets
from mmengine import fileio

from resformer_mm.datasets.label_lists import (
    BadLine,
    ListedFile,
    clean_class_names,
    read_label_list,
    read_lines,
    with_forward_slashes,
    wrong_beginning,
)
from resformer_mm.datasets.samplers import KeepResolution
from resformer_mm.registry import DATASETS
from resformer_mm.text import shorten_list

CHECK = 'tools/dataset_converters/check_video.py lists all of them'
MOST_LINES = 5


@DATASETS.register_module()
class VideoList(KeepResolution, mmaction.datasets.VideoDataset):
    """Video files with one label each, listed as ``PATH LABEL`` lines in a text file, as for Kinetics.

    Paths are relative to ``data_prefix['video']`` and may contain spaces.

    Args:
        ann_file: the list.
        num_classes: number of classes; by default that of ``metainfo.classes``. If neither is given, every
            label of at least 0 is accepted.
        metainfo: ``classes`` are the class names, or a file with one name per line.
        delimiter: separator between path and label; None means white space.
        with_label: whether lines have a label. Without, a line is a path, to predict on clips alone.
        backend_args: file backend of MMEngine, for lists and videos on remote storage.
        **kwargs: arguments of :class:`mmaction.datasets.VideoDataset`.

    Raises:
        FileNotFoundError: the list, or a file in it, does not exist.
        ValueError: a line has no label or a label outside the classes, the list is empty or not a text file,
            the numbers of classes disagree, or an argument is invalid.
    """

    def __init__(
        self,
        ann_file: str,
        *args,
        num_classes: int | None = None,
        metainfo: dict | None = None,
        delimiter: str | None = None,
        with_label: bool = True,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        if kwargs.get('multi_class'):
            raise ValueError(
                'VideoList supports one label per clip: for several labels, use mmaction.VideoDataset'
            )
        prefix = kwargs.get('data_prefix', dict(video=''))
        if 'video' not in (prefix or ()):
            raise ValueError(
                f"VideoList: data_prefix={prefix!r} has no 'video', the folder that the paths are relative "
                "to: set data_prefix=dict(video='FOLDER')"
            )
        classes = self._load_metainfo(metainfo).get('classes')
        if classes and not isinstance(classes, str):
            metainfo = {**(metainfo or {}), 'classes': list(clean_class_names(classes, 'VideoList'))}
        num_classes = _number_of_classes(classes, num_classes)
        self.backend_args, self.with_label = backend_args, with_label
        super().__init__(
            ann_file,
            *args,
            num_classes=num_classes,
            metainfo=metainfo,
            delimiter=delimiter,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Return one dict with ``filename`` and ``label`` per clip."""
        if not self.ann_file or not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'VideoList: there is no list {self.ann_file!r}: check data_root and ann_file'
            )
        classes = self.metainfo.get('classes')
        clips, bad = self._read(classes)
        if bad:
            shown = '; '.join(f'line {line.line}: {line.kind}, {line.detail}' for line in bad[:MOST_LINES])
            more = f'; and {len(bad) - MOST_LINES} more' if len(bad) > MOST_LINES else ''
            raise ValueError(
                f'{self.ann_file}, {shown}{more}: correct the lines (`PATH LABEL`), or num_classes of '
                f'the data set; for a test without labels, set with_label=False. {CHECK}'
            )
        if not clips:
            raise ValueError(f'VideoList: {self.ann_file} lists no clips: check data_root and ann_file')
        prefix = self.data_prefix.get('video') or ''

        def exists(path: str) -> bool:
            return fileio.isfile(join(prefix, path), backend_args=self.backend_args)

        clips = list(with_forward_slashes(self.ann_file, clips, exists))
        files = [join(prefix, clip.path) for clip in clips]
        if missing := missing_files(files, self.backend_args):
            first = next(clip.path for clip, file in zip(clips, files) if file == missing[0])
            beginning = wrong_beginning(first, exists)
            hint = '' if beginning is None else f'. Without {beginning!r} the first one exists'
            raise FileNotFoundError(
                f'VideoList: {len(missing)} of the {len(files)} clips in {self.ann_file} do not exist: '
                f'{shorten_list(missing)}. Add them, or remove their lines; check data_root and '
                f'data_prefix.video{hint}. {CHECK}'
            )
        if not self.with_label:
            return [dict(filename=file) for file in files]
        return [dict(filename=file, label=clip.label) for file, clip in zip(files, clips)]

    def _read(self, classes: Sequence[str] | None) -> tuple[list[ListedFile], list[BadLine]]:
        if self.with_label:
            return read_label_list(
                self.ann_file, self.num_classes, self.delimiter, classes, self.backend_args
            )
        lines = enumerate(read_lines(self.ann_file, self.backend_args), 1)
        return [ListedFile(number, line.strip(), 0) for number, line in lines if line.strip()], []


def _number_of_classes(classes: Sequence[str] | str | None, stated: int | None) -> int | None:
    """Return the number of classes, given their names and the number that the user stated."""
    if isinstance(classes, str):
        raise ValueError(
            f'VideoList: metainfo.classes={classes!r} is neither a list of class names nor a file of them'
        )
    if stated is not None and (not isinstance(stated, int) or stated < 1):
        raise ValueError(f'VideoList: num_classes={stated!r} must be an integer of at least 1')
    if classes is None:
        return stated
    if stated is not None and stated != len(classes):
        raise ValueError(
            f'VideoList: num_classes is {stated}, but metainfo.classes names {len(classes)} classes'
        )
    return len(classes)


def missing_files(paths: list[str], backend_args: dict | None = None) -> list[str]:
    """Return the files that do not exist. Listing each folder once is faster than checking every file."""
    existing: dict[str, set[str]] = {}
    for folder in {dirname(path) for path in paths}:
        existing[folder] = set()
        if fileio.isdir(folder or '.', backend_args=backend_args):
            listed = fileio.list_dir_or_file(folder or '.', list_dir=False, backend_args=backend_args)
            existing[folder].update(listed)
    return [path for path in paths if basename(path) not in existing[dirname(path)]]
