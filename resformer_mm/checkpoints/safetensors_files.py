"""Reading of safetensors files, which hold tensors and texts alone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from resformer_mm.compat.weights_only import MapLocation

_LENGTH = 8  # bytes of the length of the header, which is a JSON object


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like one of safetensors, whatever its name."""
    with path.open('rb') as file:
        start = file.read(_LENGTH + 1)
    length = int.from_bytes(start[:_LENGTH], 'little')
    return start[_LENGTH:] == b'{' and _LENGTH + length <= path.stat().st_size


def load_safetensors(path: Path, map_location: MapLocation) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ImportError: the package is missing.
        SafetensorError: the file is damaged.
    """
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f'{path} needs the package safetensors: pip install safetensors') from error
    state = load_file(path)
    # Without a location, tensors stay on the CPU, where files of this format begin.
    return (
        state if map_location is None else {name: move(value, map_location) for name, value in state.items()}
    )


def move(value: Tensor, map_location: MapLocation) -> Tensor:
    """Return a tensor on a device that is given as in :func:`torch.load`."""
    if callable(map_location):
        moved = map_location(value.untyped_storage(), 'cpu')
        return value if moved is None else value.to(moved.device)
    return value.to(map_location)


def save_safetensors(state: dict[str, Tensor], path: Path) -> None:
    """Write contiguous tensors under their names, as files of PyTorch models are.

    Raises:
        ImportError: the package is missing.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise ImportError(
            f'{path} needs the package safetensors: pip install safetensors, or save to a .pth file'
        ) from error
    save_file(state, path, metadata={'format': 'pt'})
