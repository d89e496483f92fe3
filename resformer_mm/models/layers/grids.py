"""Token grids of images and clips."""

from __future__ import annotations

Grid = tuple[int, int]  # rows and columns, (H, W)
ClipGrid = tuple[int, int, int]  # frames, rows and columns, (T, H, W)
TokenGrid = Grid | ClipGrid  # of an image or a clip


def frame_grid(grid: TokenGrid) -> Grid:
    """Return the grid ``(H, W)`` of one frame; an image is a single frame."""
    return grid[-2], grid[-1]


def frame_count(grid: TokenGrid) -> int:
    """Return the number of frames T, which is 1 for an image."""
    return grid[0] if len(grid) == 3 else 1
