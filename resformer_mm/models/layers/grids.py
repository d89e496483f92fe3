"""Sizes of maps of tokens."""

from __future__ import annotations

Grid = tuple[int, int]  # rows and columns, (H, W)
ClipGrid = tuple[int, int, int]  # frames, rows and columns, (T, H, W)
