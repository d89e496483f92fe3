"""Imports the package before mmpretrain: it makes torchvision importable where its operators do not load."""

import resformer_mm  # noqa: F401
