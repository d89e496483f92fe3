"""Resizing of patch kernels by the pseudo-inverse of image resizing (FlexiViT, arXiv 2212.08013).

A kernel w of p x p pixels becomes one of p* x p* pixels, for patches that are resized from p to p*. Resizing
an image is linear, ``x* = B x``, and the tokens should stay those of the patches before (Section 3.4)::

    w* = argmin E (<x, w> - <B x, w*>)^2 = (B^T)^+ w        for pixels x that are independent and alike

Where patches are enlarged, ``<B x, w*> = <x, w>`` holds exactly. Where they are shrunk, it holds as well as
it can, since B loses pixels.

B is bilinear, with antialiasing, as image pipelines shrink images: every pixel counts. Without it, shrinking
would ignore most of them; enlarging is the same with and without. B is separable, and so is its
pseudo-inverse: with ``B = b x b``, one matrix ``(b^T)^+`` of p* x p numbers acts on the rows and on the
columns of a kernel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def image_resizing(old: int, new: int) -> np.ndarray:
    """Return the matrix b ``(new, old)`` that resizes a line of pixels, bilinear with antialiasing, float64.

    Every new pixel is a mean of old ones, with weights that fall linearly with the distance from its centre.
    """
    scale = old / new
    reach = max(scale, 1.0)  # in old pixels
    centres = (np.arange(new) + 0.5) * scale
    distances = np.abs(np.arange(old) + 0.5 - centres[:, None])
    weights = np.maximum(0.0, 1.0 - distances / reach)
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=1024)
def kernel_resizing(old: int, new: int) -> np.ndarray:
    """Return the matrix ``(b^T)^+`` ``(new, old)`` that resizes a line of a kernel, float64, read-only."""
    matrix = np.linalg.pinv(image_resizing(old, new).T)
    matrix.setflags(write=False)
    return matrix


def resize_kernel(weight: Tensor, matrix: Tensor) -> Tensor:
    """Return kernels ``(..., p*, p*)`` of kernels ``(..., p, p)``, computed in float32, also under autocast.

    Args:
        weight: the kernels; the result is differentiable in them.
        matrix: :func:`kernel_resizing` of p and p*, ``(p*, p)``.
    """
    with torch.autocast(weight.device.type, enabled=False):
        return apply_to_lines(matrix, weight)


def apply_to_lines(matrix: Tensor, weight: Tensor) -> Tensor:
    """Return the product of a matrix ``(p*, p)`` with the rows and columns of kernels ``(..., p, p)``."""
    matrix = matrix.float()
    return (matrix @ weight.float() @ matrix.t()).to(weight.dtype)
