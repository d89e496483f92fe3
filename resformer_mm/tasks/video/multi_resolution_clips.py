"""One decoded clip, several copies that may differ in resolution, number of frames and sampling interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmaction.datasets.transforms import SampleFrames
from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import PLACEHOLDER, check_resolutions, fill_resolution
from resformer_mm.datasets.multi_resolution import check_uses_resolution
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import TRANSFORMS

from .clips import give_up, opened_reader
from .files import VideoFileError

FIELD = 'MultiResolutionClips.resolutions'


class FramesFrom(SampleFrames):
    """mmaction's sampler of one clip, whose first frame is given and not drawn."""

    def indices(self, first: int, total_frames: int) -> np.ndarray:
        """Return the frames of the clip, ``(clip_len,)``, looped or repeated where the video ends."""
        self._first = first
        return self.transform(dict(total_frames=total_frames, start_index=0))['frame_inds']

    def _sample_clips(self, num_frames: int, ori_clip_len: float) -> np.ndarray:
        return np.array([self._first])


@dataclass(frozen=True)
class ClipCopy:
    """One of the copies.

    Attributes:
        resolution: in pixels.
        sampler: chooses its frames.
        pipeline: its crop and augmentation.
    """

    resolution: int
    sampler: FramesFrom
    pipeline: Compose

    @property
    def span(self) -> int:
        """Frames of the video that it stretches over."""
        return self.sampler.clip_len * self.sampler.frame_interval


@TRANSFORMS.register_module()
class MultiResolutionClips(BaseTransform):
    """Decode a clip once, and give every copy its own frames, crop and augmentation.

    A window as long as the widest copy is drawn from the video, uniformly, as mmaction's ``SampleFrames``
    draws it. Every copy takes its frames around the middle of the window, so that all show the same action.
    The frames of all copies are decoded together, each once. A video shorter than a copy is looped or its
    last sampled frame repeated. With one number of frames and one interval for all, the copies have the same
    frames.

    Required keys: ``video_reader`` of :class:`ClipInit`, ``total_frames``. Sets ``imgs`` to the list of
    copies ``(1, C, T_i, R_i, R_i)``, high to low, if the transforms end with
    ``FormatShape(input_format='NCTHW')``. Where a :class:`ResolutionBatchSampler` drew one resolution for the
    batch, the list has the copies of this one.

    Args:
        resolutions: resolutions of the copies in pixels, high to low; one may stand twice if the numbers of
            frames or the intervals differ.
        transforms: configs of the transforms of every copy; the value ``'{resolution}'`` anywhere in them
            is the resolution of the copy, e.g. ``scale=('{resolution}', '{resolution}')`` of a ``Resize``.
        num_frames: number of frames, one for all copies or one for each.
        frame_interval: distance from one frame to the next in frames of the video, as well.
        out_of_bound_opt: 'loop' or 'repeat_last', for frames after the end of the video.

    Raises:
        ClipReadError: a frame cannot be decoded, and ``ClipInit.on_error`` is 'raise'.
        RuntimeError: a transform fails; the message names the file and the size of its frames.
        TypeError: the file was not opened by :class:`ClipInit`.
        ValueError: resolutions, numbers or intervals are not positive, out of order, of different number or
            name two equal copies; the transforms never use the resolution; ``out_of_bound_opt`` is unknown.
    """

    def __init__(
        self,
        resolutions: Sequence[int],
        transforms: Sequence[dict],
        num_frames: int | Sequence[int] = 8,
        frame_interval: int | Sequence[int] = 32,
        out_of_bound_opt: str = 'loop',
    ) -> None:
        transforms = [transforms] if isinstance(transforms, dict) else list(transforms or ())
        check_uses_resolution(
            transforms,
            type(self).__name__,
            f"dict(type='Resize', scale=('{PLACEHOLDER}', '{PLACEHOLDER}'), keep_ratio=False)",
        )
        if out_of_bound_opt not in ('loop', 'repeat_last'):
            raise ValueError(
                f"MultiResolutionClips.out_of_bound_opt={out_of_bound_opt!r}, choose 'loop' or 'repeat_last'"
            )
        is_list = isinstance(resolutions, (list, tuple))
        check_resolutions(list(dict.fromkeys(resolutions)) if is_list else resolutions, FIELD)
        lengths = _per_copy(num_frames, resolutions, 'num_frames')
        intervals = _per_copy(frame_interval, resolutions, 'frame_interval')
        _check_copies(resolutions, lengths, intervals)
        self.copies = [
            ClipCopy(
                resolution,
                FramesFrom(length, interval, out_of_bound_opt=out_of_bound_opt),
                Compose(fill_resolution(transforms, resolution)),
            )
            for resolution, length, interval in zip(resolutions, lengths, intervals)
        ]
        self.window = SampleFrames(max(copy.span for copy in self.copies))

    @property
    def resolutions(self) -> list[int]:
        """Resolutions of the copies in pixels, high to low."""
        return [copy.resolution for copy in self.copies]

    def transform(self, results: dict) -> dict | None:
        """Return the results with ``imgs`` as a list; None if the clip is skipped or a transform gave up."""
        reader = opened_reader(results, type(self).__name__)
        copies = self._wanted(results.get('sample_idx'))
        indices = self.sample(copies, results['total_frames'])
        try:
            frames = reader.frames(np.concatenate(indices))
        except VideoFileError as error:
            return give_up(reader.unreadable, error)
        results = {**results, 'video_reader': None}
        out = []
        parts = np.split(frames, np.cumsum([len(part) for part in indices])[:-1])
        for copy, numbers, part in zip(copies, indices, parts):
            try:
                done = copy.pipeline(
                    {
                        **results,
                        'imgs': list(part),
                        'frame_inds': numbers,
                        'clip_len': len(numbers),
                        'num_clips': 1,
                        'original_shape': part.shape[1:3],
                        'img_shape': part.shape[1:3],
                    }
                )
            except Exception as error:  # most of mmaction's say nothing
                height, width = part.shape[1:3]
                raise RuntimeError(
                    f'MultiResolutionClips.transforms fail for resolution {copy.resolution} on '
                    f'{results.get("filename")} of {height} x {width} pixels (height x width): '
                    f'{type(error).__name__} {error}'
                ) from error
            if done is None:
                return None
            out.append(done)
        return {**out[0], 'imgs': [done['imgs'] for done in out]}

    def sample(self, copies: Sequence[ClipCopy], total_frames: int) -> list[np.ndarray]:
        """Draw a window and return the frames of every copy, ``(T_i,)``."""
        width = self.window.clip_len
        start = int(self.window.transform(dict(total_frames=total_frames, start_index=0))['frame_inds'][0])
        there = min(width, total_frames)
        firsts = [start + max((there - copy.span) // 2, 0) for copy in copies]
        return [copy.sampler.indices(first, total_frames) for copy, first in zip(copies, firsts)]

    def _wanted(self, index: object) -> list[ClipCopy]:
        if not isinstance(index, ResolutionIndex):
            return self.copies
        wanted = [copy for copy in self.copies if copy.resolution == index.resolution]
        if not wanted:
            raise ValueError(
                f'the batch sampler drew resolution {index.resolution}, which is not among the '
                f'{self.resolutions} of MultiResolutionClips: give both the '
                'same list'
            )
        return wanted

    def __repr__(self) -> str:
        """Name the copies and the transforms of the first."""
        copies = ', '.join(
            f'{copy.sampler.clip_len}x{copy.sampler.frame_interval} at {copy.resolution}'
            for copy in self.copies
        )
        return f'{type(self).__name__}({copies}, transforms={self.copies[0].pipeline})'


def _per_copy(value: int | Sequence[int], resolutions: Sequence[int], field: str) -> list[int]:
    """Return one positive number for every copy."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(resolutions)
    if len(values) != len(resolutions):
        raise ValueError(
            f'MultiResolutionClips.{field} has {len(values)} entries, resolutions has {len(resolutions)}: '
            'give one number for all copies, or one for each'
        )
    for entry in values:
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
            raise ValueError(f'MultiResolutionClips.{field} contains {entry!r}: give positive integers')
    return values


def _check_copies(resolutions: Sequence[int], lengths: Sequence[int], intervals: Sequence[int]) -> None:
    """Check that the resolutions are high to low, and that no two copies are the same."""
    if list(resolutions) != sorted(resolutions, reverse=True):
        raise ValueError(f'{FIELD} = {list(resolutions)} must be listed high to low')
    copies = list(zip(lengths, intervals, resolutions))
    if twice := next((copy for copy in copies if copies.count(copy) > 1), None):
        raise ValueError(
            f'{FIELD}: two copies have {twice[0]} frames at intervals of {twice[1]} and resolution '
            f'{twice[2]}: change num_frames, frame_interval or resolution of one, or leave it out'
        )
