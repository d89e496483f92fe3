"""Device and display checks."""

from __future__ import annotations

import torch


def check_device(device: str | torch.device | None) -> None:
    """Check that tensors can be created on a device; None is the default device.

    Raises:
        ValueError: the device cannot be used; the message gives the reason.
    """
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).split('\n')[0]
        raise ValueError(f'the device {str(device)!r} cannot be used: {reason}') from error


def check_display() -> None:
    """Check that matplotlib has a display to open windows on.

    Raises:
        ValueError: there is no display.
    """
    import matplotlib.pyplot as plt

    if plt.get_backend().lower() == 'agg':
        raise ValueError(
            'there is no display to show images on: write them to a folder (out_dir, --out-dir, --show-dir)'
        )
