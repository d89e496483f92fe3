"""Copies of a clip that differ in resolution, number of frames or sampling interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmaction.datasets.transforms import SampleFrames
from mmcv.transforms import BaseTransform, Compose

from resformer_mm.config.resolutions import (
    PLACEHOLDER,
    check_resolutions,
    fill_resolution,
    list_resolutions,
)
from resformer_mm.datasets.multi_resolution import check_uses_resolution
from resformer_mm.datasets.samplers import ResolutionIndex
from resformer_mm.registry import TRANSFORMS

from .clips import opened_reader, skip_or_raise
from .files import VideoFileError

FIELD = 'MultiResolutionClips.resolutions'


class FramesFrom(SampleFrames):
    """A frame sampler of mmaction whose first frame is given instead of random."""

    def indices(self, first: int, total_frames: int) -> np.ndarray:
        """Return the frame indices of the clip, ``(clip_len,)``, looped or repeated after the video's end."""
        self._first = first
        return self.transform(dict(total_frames=total_frames, start_index=0))['frame_inds']

    def _sample_clips(self, num_frames: int, ori_clip_len: float) -> np.ndarray:
        return np.array([self._first])


@dataclass(frozen=True)
class ClipCopy:
    """One copy of a clip.

    Attributes:
        resolution: in pixels.
        sampler: selects the frames.
        pipeline: crops and augments the frames.
    """

    resolution: int
    sampler: FramesFrom
    pipeline: Compose

    @property
    def span(self) -> int:
        """Number of video frames that the copy spans."""
        return self.sampler.clip_len * self.sampler.frame_interval


@TRANSFORMS.register_module()
class MultiResolutionClips(BaseTransform):
    """Decode a clip once and make copies with different frames, crops and augmentations.

    A window as long as the widest copy is drawn uniformly from the video, as in mmaction's ``SampleFrames``.
    Every copy takes its frames around the middle of the window, so that all copies show the same action. The
    frames of all copies are decoded together, each only once. If a video is shorter than a copy, it is looped
    or the last sampled frame is repeated. If ``num_frames`` and ``frame_interval`` are single numbers, all
    copies have the same frames.

    Required keys: ``video_reader`` of :class:`ClipInit`, ``total_frames``. Sets ``imgs`` to the list of
    copies ``(1, C, T_i, R_i, R_i)``, high to low, if the transforms end with
    ``FormatShape(input_format='NCTHW')``. If a :class:`ResolutionBatchSampler` or
    :class:`MultiResolutionBatchSampler` drew resolutions for the batch, the list contains only the copies
    with these.

    Args:
        resolutions: resolutions of the copies in pixels, high to low; a resolution may occur twice if the
            numbers of frames or the intervals differ. Or a range: ``dict(low=96, high=224, step=16)``.
        transforms: configs of the transforms of every copy; the value ``'{resolution}'`` anywhere in them
            is replaced by the resolution of the copy, e.g. in ``scale=('{resolution}', '{resolution}')`` of a
            ``Resize``.
        num_frames: number of frames, one for all copies or one for each.
        frame_interval: distance between successive frames, in frames of the video; one for all copies or one
            for each.
        out_of_bound_opt: 'loop' or 'repeat_last', for frames after the end of the video.

    Raises:
        ClipReadError: a frame cannot be decoded, and ``ClipInit.on_error`` is 'raise'.
        RuntimeError: a transform fails; the message names the file and the size of its frames.
        TypeError: the file was not opened by :class:`ClipInit`.
        ValueError: the resolutions, numbers of frames or intervals are not positive, differ in length or
            specify two equal copies; the resolutions are not listed high to low; the transforms never use the
            resolution; or ``out_of_bound_opt`` is unknown.
    """

    def __init__(
        self,
        resolutions: Sequence[int] | Mapping[str, int],
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
        resolutions = list_resolutions(resolutions, FIELD)
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
        self.window = SampleFrames(max(item.span for item in self.copies))

    @property
    def resolutions(self) -> list[int]:
        """Resolutions of the copies in pixels, high to low."""
        return [item.resolution for item in self.copies]

    def transform(self, results: dict) -> dict | None:
        """Return the results with ``imgs`` as a list; None if the clip is skipped, here or by a transform."""
        reader = opened_reader(results, type(self).__name__)
        copies = self._selected_copies(results.get('sample_idx'))
        indices = self.sample(copies, results['total_frames'])
        try:
            frames = reader.frames(np.concatenate(indices))
        except VideoFileError as error:
            skip_or_raise(reader.unreadable, error)
            return None
        results = {**results, 'video_reader': None}
        out = []
        parts = np.split(frames, np.cumsum([len(part) for part in indices])[:-1])
        for item, numbers, part in zip(copies, indices, parts):
            try:
                done = item.pipeline(
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
            except Exception as error:  # most messages of mmaction name neither file nor size
                height, width = part.shape[1:3]
                raise RuntimeError(
                    f'MultiResolutionClips.transforms failed at resolution {item.resolution} for '
                    f'{results.get("filename")} with {height} x {width} pixels (height x width): '
                    f'{type(error).__name__} {error}'
                ) from error
            if done is None:
                return None
            out.append(done)
        return {**out[0], 'imgs': [done['imgs'] for done in out]}

    def sample(self, copies: Sequence[ClipCopy], total_frames: int) -> list[np.ndarray]:
        """Draw a window and return the frame indices of every copy, ``(T_i,)``."""
        width = self.window.clip_len
        start = int(self.window.transform(dict(total_frames=total_frames, start_index=0))['frame_inds'][0])
        available = min(width, total_frames)
        firsts = [start + max((available - item.span) // 2, 0) for item in copies]
        return [item.sampler.indices(first, total_frames) for item, first in zip(copies, firsts)]

    def _selected_copies(self, index: object) -> list[ClipCopy]:
        if not isinstance(index, ResolutionIndex):
            return self.copies
        for resolution in index.resolutions:
            if resolution not in self.resolutions:
                raise ValueError(
                    f'the batch sampler drew resolution {resolution}, which is not in '
                    f'MultiResolutionClips.resolutions={self.resolutions}: give both the same list'
                )
        return [item for item in self.copies if item.resolution in index.resolutions]

    def __repr__(self) -> str:
        """Return the copies and the transforms of the first one."""
        copies = ', '.join(
            f'{item.sampler.clip_len}x{item.sampler.frame_interval} at {item.resolution}'
            for item in self.copies
        )
        return f'{type(self).__name__}({copies}, transforms={self.copies[0].pipeline})'


def _per_copy(value: int | Sequence[int], resolutions: Sequence[int], field: str) -> list[int]:
    """Return one positive number for every copy."""
    values: list = list(value) if isinstance(value, (list, tuple)) else [value] * len(resolutions)
    if len(values) != len(resolutions):
        raise ValueError(
            f'MultiResolutionClips.{field} has {len(values)} entries, but resolutions has '
            f'{len(resolutions)}: give one number for all copies, or one for each'
        )
    for entry in values:
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
            raise ValueError(f'MultiResolutionClips.{field} contains {entry!r}: give positive integers')
    return values


def _check_copies(resolutions: Sequence[int], lengths: Sequence[int], intervals: Sequence[int]) -> None:
    """Check that the resolutions are high to low, and that no two copies are the same."""
    if list(resolutions) != sorted(resolutions, reverse=True):
        raise ValueError(
            f'{FIELD} = {list(resolutions)} must be listed high to low: {sorted(resolutions, reverse=True)}'
        )
    copies = list(zip(lengths, intervals, resolutions))
    if duplicate := next((item for item in copies if copies.count(item) > 1), None):
        num_frames, interval, resolution = duplicate
        raise ValueError(
            f'{FIELD}: two copies have {num_frames} frames at intervals of {interval} and resolution '
            f'{resolution}: change num_frames, frame_interval or resolution of one, or remove it'
        )
