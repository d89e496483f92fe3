"""Validation of lists of video files, before training."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import mmcv
import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS

from resformer_mm.config.resolutions import transform_name
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each

from .clip_lists import ClipListError, ListedClip, read_clip_list
from .files import DEFAULT_TIMEOUT, TRUNCATED, ClipReader, VideoFileError

SAMPLERS = ('SampleFrames', 'MultiResolutionClips')
CHUNK = 8  # frames that are held at once
UNEVEN = 1.5  # frames whose lengths differ by more than this factor are told
ENDLESS = 1e6  # seconds

MISSING_LIST = 'missing list'
NO_LIST = 'list that is no text'
EMPTY_LIST = 'no clips'
TWICE = 'listed twice'
TWO_LABELS = 'listed with two labels'
IN_TWO_LISTS = 'in two lists'
SHORT = 'shorter than the window'
HIDDEN = 'frames cut by an edit list'
VARIABLE_RATE = 'variable frame rate'


@dataclass(frozen=True)
class ClipList:
    """A list of clips, and what its lines mean.

    Args:
        path: the list file.
        folder: what its paths are relative to.
        num_classes: number of classes; None lets every label pass that is not negative.
        delimiter: what stands between path and label; None stands for white space.
        window: frames of a video that one training sample stretches over; shorter clips are noted.
    """

    path: str
    folder: str
    num_classes: int | None = None
    delimiter: str | None = None
    window: int | None = field(default=None, compare=False)

    def file(self, clip: ListedClip) -> str:
        """Return the path of a clip."""
        return os.path.join(self.folder, clip.path)

    @classmethod
    def from_config(cls, config: Mapping, loader: str) -> ClipList:
        """Return what the data set of a config reads; the default scope must be that of the config.

        Args:
            config: config of the data set.
            loader: name of its data loader, for messages.

        Raises:
            ValueError: a data set reads no list of video files.
        """
        dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
        prefix = getattr(dataset, 'data_prefix', {}).get('video')
        if not dataset.ann_file or prefix is None:
            raise ValueError(
                f'{loader}.dataset reads no list of video files (ann_file and data_prefix.video): there is '
                f'nothing to check, leave it out with --cfg-options {loader}=None'
            )
        # mmaction's own data set splits at single spaces.
        delimiter = getattr(dataset, 'delimiter', None)
        return cls(
            dataset.ann_file,
            prefix,
            dataset.num_classes,
            None if delimiter == ' ' else delimiter,
            sampling_window(config.get('pipeline', ())),
        )


@dataclass(frozen=True)
class ClipFacts:
    """What reading a clip to its end told."""

    num_frames: int
    fps: float


def check_clip_lists(
    lists: Sequence[ClipList],
    timeout: float = DEFAULT_TIMEOUT,
    workers: int = 1,
    show_progress: bool = False,
) -> CheckReport:
    """Check every line of every list, and read every clip to its end with the decoder of training.

    Args:
        lists: what to check; clips that stand in two of them are noted.
        timeout: seconds that one clip may take.
        workers: number of threads.
        show_progress: show a bar on stderr.
    """
    report = CheckReport()
    seen: dict[str, str] = {}
    for clip_list in lists:
        if not os.path.isfile(clip_list.path):
            report.findings.append(Finding(clip_list.path, MISSING_LIST))
            continue
        try:
            clips, bad = read_clip_list(clip_list.path, clip_list.num_classes, clip_list.delimiter)
        except ClipListError as error:
            report.findings.append(Finding(clip_list.path, NO_LIST, str(error)))
            continue
        report.findings += [
            Finding(clip_list.path, line.kind, f'line {line.line}: {line.detail}') for line in bad
        ]
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
            lambda file: check_clip(file, clip_list.window, timeout),  # noqa: B023  used up within this turn
            files,
            workers,
            clip_list.path if show_progress else None,
        )
        facts = []
        for found, fact in results:
            report.findings += found
            facts += [fact] if fact is not None else []
        report.facts.append(_describe(clip_list, clips, facts))
    return report


def check_clip(
    path: str, window: int | None = None, timeout: float = DEFAULT_TIMEOUT
) -> tuple[list[Finding], ClipFacts | None]:
    """Read one clip to its end; return what is wrong, and what it is, or None if it cannot be read.

    Args:
        path: the file.
        window: number of frames; a clip with fewer is noted.
        timeout: seconds that this may take.
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
    announced = mmcv.VideoReader(path).frame_cnt
    # Containers without an index give an estimate, off by a frame or so.
    if number < announced - max(1, announced // 50):
        # The index of an MP4 file is whole, or the file does not open: what is missing is cut by its edits.
        is_cut = _is_mp4(path)
        detail = f'it announces {announced} frames and gives {number}, which training sees'
        findings.append(Finding(path, HIDDEN if is_cut else TRUNCATED, detail, is_fault=not is_cut))
    if window is not None and number < window:
        detail = f'{number} frames, window {window}: looped or padded as the pipeline says'
        findings.append(Finding(path, SHORT, detail, is_fault=False))
    lengths = np.diff(times)
    # AVI files do not give every frame its time; decord then has a number out of all bounds.
    if len(lengths) > 1 and (times >= 0).all() and UNEVEN * lengths.min() < lengths.max() < ENDLESS:
        detail = (
            f'frames of {1000 * lengths.min():.0f} to {1000 * lengths.max():.0f} ms; intervals count frames'
        )
        findings.append(Finding(path, VARIABLE_RATE, detail, is_fault=False))
    return findings, ClipFacts(number, reader.get_avg_fps())


def _is_mp4(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(8)[4:] == b'ftyp'


def _repeated(clip_list: ClipList, clips: Sequence[ListedClip]) -> list[Finding]:
    """Find the clips that stand in a list more than once."""
    lines: dict[str, list[ListedClip]] = {}
    for clip in clips:
        lines.setdefault(os.path.realpath(clip_list.file(clip)), []).append(clip)
    findings = []
    for same in lines.values():
        if len(same) > 1:
            labels = {clip.label for clip in same}
            where = f'{clip_list.path}, lines {", ".join(str(clip.line) for clip in same)}'
            kind, detail = (TWICE, where) if len(labels) == 1 else (TWO_LABELS, f'{where}: {sorted(labels)}')
            findings.append(Finding(clip_list.file(same[0]), kind, detail, is_fault=len(labels) > 1))
    return findings


def _describe(clip_list: ClipList, clips: Sequence[ListedClip], facts: Sequence[ClipFacts]) -> str:
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
    """Return how many frames of a video one sample stretches over; None if the pipeline does not say."""
    widths = []
    for step in pipeline:
        if transform_name(step) in SAMPLERS:
            sampler = TRANSFORMS.build(step)
            # That of all copies, where there are several.
            sampler = getattr(sampler, 'window', sampler)
            widths.append(int(sampler._get_ori_clip_len(1.0)))
    return max(widths, default=None)
