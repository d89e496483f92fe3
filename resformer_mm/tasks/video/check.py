"""Validation of video lists before training."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS

from resformer_mm.config_types import type_name
from resformer_mm.datasets.checks.reading import foreign, reading_findings
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.datasets.label_lists import (
    COUNTS_FROM_ONE,
    BadLine,
    LabelListError,
    ListedFile,
    read_local_list,
)
from resformer_mm.datasets.labelled_files import in_class_folders
from resformer_mm.engine.classes import class_names, name_difference
from resformer_mm.inference.sources import VIDEO_SUFFIXES
from resformer_mm.repairs import collected

from .files import DEFAULT_TIMEOUT, TRUNCATED, ClipReader, VideoFileError, announced_frames, is_mp4

SAMPLERS = ('SampleFrames', 'MultiResolutionClips')
CHUNK = 8  # frames in memory at the same time
UNEVEN = 1.5  # frame durations that differ by more than this factor are reported
MAX_FRAME_SECONDS = 1e6  # longer durations are invalid

MISSING_LIST = 'missing list'
NO_LIST = 'list is not a text file'
EMPTY_LIST = 'no clips'
DUPLICATE = 'listed twice'
TWO_LABELS = 'listed with two labels'
IN_TWO_LISTS = 'in two lists'
SHORT = 'shorter than the window'
EDIT_LIST = 'frames cut by an edit list'
VARIABLE_RATE = 'variable frame rate'
OTHER_CLASSES = 'splits with different classes'
FROM_ONE = 'labels that count from 1'


@dataclass(frozen=True)
class ClipList:
    """A list of clips and how to read its lines, or class folders of clips.

    Args:
        path: the list file, or the folder of the class folders.
        folder: the folder that its paths are relative to; the same one for class folders.
        num_classes: number of classes; None accepts every label of at least 0.
        delimiter: separator between path and label; None means white space.
        window: number of video frames that a training sample spans; shorter clips are reported as notes.
        classes: names of the classes, if they are known.
        foreign: the data set that reads the list, unless it is one of this package.
    """

    path: str
    folder: str
    num_classes: int | None = None
    delimiter: str | None = None
    window: int | None = field(default=None, compare=False)
    classes: tuple[str, ...] | None = field(default=None, compare=False)
    foreign: Any = field(default=None, compare=False, repr=False)

    def file(self, clip: ListedFile) -> str:
        """Return the path of a clip."""
        return os.path.join(self.folder, clip.path)

    @property
    def has_folders(self) -> bool:
        """Whether the clips are in class folders."""
        return os.path.isdir(self.path)

    def read(self) -> tuple[list[ListedFile], list[BadLine], tuple[str, ...] | None]:
        """Return the clips, the lines that cannot be used, and the names of the classes, if they are known.

        Raises:
            LabelListError: the list is not a text file.
        """
        if not self.has_folders:
            known = self.num_classes, self.delimiter, self.classes
            return *read_local_list(self.path, self.folder, *known), self.classes
        found = in_class_folders('', Path(self.path), VIDEO_SUFFIXES)
        files = found.files if found is not None else ()
        names = tuple(sorted({name for _, name in files}))
        return [ListedFile(0, path, names.index(name)) for path, name in files], [], names

    @classmethod
    def from_config(cls, config: Mapping, loader: str) -> ClipList:
        """Return the list that a data set reads. The default scope must be that of the config.

        Args:
            config: config of the data set.
            loader: name of its data loader, for messages.

        Raises:
            ValueError: the data set does not read a list of video files.
        """
        dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
        prefix = getattr(dataset, 'data_prefix', {}).get('video')
        if not dataset.ann_file or prefix is None:
            raise ValueError(
                f'{loader}.dataset does not read a list of video files (ann_file and data_prefix.video): '
                f'there is nothing to check. Skip it with --cfg-options {loader}=None'
            )
        # mmaction's own data set splits at single spaces.
        delimiter = getattr(dataset, 'delimiter', None)
        return cls(
            dataset.ann_file,
            prefix,
            dataset.num_classes,
            None if delimiter == ' ' else delimiter,
            sampling_window(config.get('pipeline', ())),
            class_names(dataset),
            foreign(dataset),
        )


@dataclass(frozen=True)
class ClipFacts:
    """Properties of a clip that was read to its end."""

    num_frames: int
    fps: float


def check_clip_lists(
    lists: Sequence[ClipList],
    timeout: float = DEFAULT_TIMEOUT,
    workers: int = 1,
    show_progress: bool = False,
) -> CheckReport:
    """Check every line of every list, and read every clip to its end with the decoder used in training.

    Args:
        lists: the lists to check; clips that are in two of them are reported as notes.
        timeout: time limit per clip in seconds.
        workers: number of threads.
        show_progress: show a progress bar on stderr.
    """
    report = CheckReport()
    seen: dict[str, str] = {}
    unknown: Counter[int] = Counter()  # labels of classes whose number is not known
    first: tuple[str, tuple[str, ...]] | None = None  # class folders of the first split
    for clip_list in lists:
        if not os.path.exists(clip_list.path):
            report.findings.append(Finding(clip_list.path, MISSING_LIST))
            continue
        try:
            with collected() as repairs:
                clips, bad, names = clip_list.read()
        except LabelListError as error:
            report.findings.append(Finding(clip_list.path, NO_LIST, str(error)))
            continue
        report.findings += [
            Finding(clip_list.path, line.kind, f'line {line.line}: {line.detail}') for line in bad
        ]
        if clip_list.has_folders and names:
            first = first or (clip_list.path, names)
            difference = name_difference(first[1], names, (first[0], clip_list.path))
            if difference is not None:
                report.findings.append(Finding(clip_list.path, OTHER_CLASSES, difference))
        elif not bad:
            report.findings += reading_findings(
                clip_list.path,
                repairs,
                clip_list.foreign,
                'resformer_mm.VideoList',
                [(os.path.normpath(clip_list.file(clip)), clip.label) for clip in clips],
                lambda info: (os.path.normpath(info['filename']), info['label']),
            )
        if not clips and not bad:
            report.findings.append(Finding(clip_list.path, EMPTY_LIST))
        report.findings += _repeated(clip_list, clips)
        files = list(dict.fromkeys(clip_list.file(clip) for clip in clips))
        for file in files:
            before = seen.setdefault(os.path.realpath(file), clip_list.path)
            if before != clip_list.path:
                report.findings.append(
                    Finding(file, IN_TWO_LISTS, f'{before} and {clip_list.path}', is_fault=False)
                )
        results = check_each(
            lambda file: check_clip(file, clip_list.window, timeout),  # noqa: B023  called before the next iteration
            files,
            workers,
            clip_list.path if show_progress else None,
        )
        facts = []
        for found, fact in results:
            report.findings += found
            facts += [fact] if fact is not None else []
        labels = Counter(clip.label for clip in clips)
        number = clip_list.num_classes or max(labels, default=-1) + 1
        if clip_list.num_classes is None and not clip_list.has_folders:
            unknown += labels
        titles = names or tuple(map(str, range(number)))
        report.counts_per_class[f'{clip_list.path}: clips'] = {
            title: labels[label] for label, title in enumerate(titles)
        }
        report.facts.append(_describe(clip_list, clips, facts))
    if unknown and min(unknown) == 1 < max(unknown):
        detail = COUNTS_FROM_ONE.format(number=max(unknown))
        report.findings.append(Finding(lists[0].path, FROM_ONE, detail, is_fault=False))
    return report


def check_clip(
    path: str, window: int | None = None, timeout: float = DEFAULT_TIMEOUT
) -> tuple[list[Finding], ClipFacts | None]:
    """Read one clip to its end; return the findings and its properties, or None if it cannot be read.

    Args:
        path: the file.
        window: number of frames; a clip with fewer frames gets a note.
        timeout: time limit in seconds.
    """
    end = time.monotonic() + timeout
    try:
        reader = ClipReader(path, timeout)
        for start in range(0, len(reader), CHUNK):
            reader.timeout = max(end - time.monotonic(), 0)
            reader.frames(range(start, min(start + CHUNK, len(reader))))
        times = reader.frame_times()
    except VideoFileError as error:
        return [Finding(path, error.kind, error.detail)], None
    findings = []
    number = len(reader)
    if (announced := announced_frames(path, number)) is not None:
        # An MP4 file with an incomplete index does not open, so missing frames are cut by an edit list.
        is_cut = is_mp4(path)
        detail = f'its header announces {announced} frames, but training sees {number}'
        findings.append(Finding(path, EDIT_LIST if is_cut else TRUNCATED, detail, is_fault=not is_cut))
    if window is not None and number < window:
        detail = f'{number} frames, window {window}: looped or padded, depending on the pipeline'
        findings.append(Finding(path, SHORT, detail, is_fault=False))
    durations = np.diff(times)
    # AVI files may lack times for some frames; decord then returns huge numbers.
    is_uneven = (
        len(durations) > 1
        and (times >= 0).all()
        and UNEVEN * durations.min() < durations.max() < MAX_FRAME_SECONDS
    )
    if is_uneven:
        shortest, longest = 1000 * durations.min(), 1000 * durations.max()
        detail = f'frames of {shortest:.0f} to {longest:.0f} ms; sampling intervals count frames'
        findings.append(Finding(path, VARIABLE_RATE, detail, is_fault=False))
    return findings, ClipFacts(number, reader.get_avg_fps())


def _repeated(clip_list: ClipList, clips: Sequence[ListedFile]) -> list[Finding]:
    """Find the clips that are listed more than once."""
    lines: dict[str, list[ListedFile]] = {}
    for clip in clips:
        lines.setdefault(os.path.realpath(clip_list.file(clip)), []).append(clip)
    findings = []
    for same in lines.values():
        if len(same) > 1:
            labels = {clip.label for clip in same}
            where = f'{clip_list.path}, lines {", ".join(str(clip.line) for clip in same)}'
            kind, detail = DUPLICATE, where
            if len(labels) > 1:
                kind, detail = TWO_LABELS, f'{where}: {sorted(labels)}'
            findings.append(Finding(clip_list.file(same[0]), kind, detail, is_fault=len(labels) > 1))
    return findings


def _describe(clip_list: ClipList, clips: Sequence[ListedFile], facts: Sequence[ClipFacts]) -> str:
    occurring = len({clip.label for clip in clips})
    classes = f'{occurring} of {clip_list.num_classes}' if clip_list.num_classes else str(occurring)
    text = f'{clip_list.path}: {len(clips)} clips, {classes} classes occur'
    if facts:
        frames, rates = [fact.num_frames for fact in facts], [fact.fps for fact in facts]
        text += (
            f', {min(frames)} to {max(frames)} frames, {min(rates):.3g} to {max(rates):.3g} frames a second'
        )
    return text


def sampling_window(pipeline: Sequence[Mapping]) -> int | None:
    """Return how many video frames a sample spans; None if the pipeline does not sample frames."""
    widths = []
    for step in pipeline:
        if type_name(step['type']) in SAMPLERS:
            sampler = TRANSFORMS.build(step)
            # MultiResolutionClips samples one window for all copies.
            sampler = getattr(sampler, 'window', sampler)
            widths.append(int(sampler._get_ori_clip_len(1.0)))
    return max(widths, default=None)
