"""Data sets whose stand-ins for a skipped sample keep the resolution of the batch."""

from __future__ import annotations

from .samplers import ResolutionIndex


class KeepsResolution:
    """A mixin before a data set of MMEngine, which draws another sample where the pipeline skipped one."""

    def __getitem__(self, index: int) -> dict:
        """Return a sample; its stand-in, should it be skipped, keeps the resolution of the batch."""
        self._wanted = index
        return super().__getitem__(index)

    def _rand_another(self) -> int:
        index = super()._rand_another()
        if isinstance(self._wanted, ResolutionIndex):
            return ResolutionIndex(index, self._wanted.resolution)
        return index
