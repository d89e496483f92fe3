"""Folders of weights with their settings, under the file names of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
# What other libraries write there, in order of preference.
WEIGHT_FILES = (WEIGHTS, 'pytorch_model.bin')
INDEX = '.index.json'  # ends the name of the list of the parts of a model in several files
_PART = re.compile(r'-\d{5}-of-(?!00001)\d{5}\.')  # in the name of one of several parts


def weights_of_folder(folder: Path) -> Path | None:
    """Return the file of the weights; None if there is none."""
    return next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)


def folder_fault(folder: Path) -> str:
    """Return why no weights are read from a folder."""
    if indices := sorted(folder.glob(f'*{INDEX}')):
        return f'has {sharded(indices[0].name)}'
    return f'is a folder without {" or ".join(WEIGHT_FILES)}: give the path of a checkpoint file'


def sharded(index: str) -> str:
    """Return what weights in several files are, with the remedy; ``index`` names their list or one."""
    return (
        f'weights in several files ({index}), which are not read: load them in the library that wrote them, '
        "and save the state dict in one file, torch.save(model.state_dict(), 'model.pth')"
    )


def is_part(file: Path) -> bool:
    """Whether a file is one of several with the weights of a model, by its name."""
    return bool(_PART.search(file.name))


def config_file(weights: Path) -> Path:
    """Return where the settings of a file of weights are: ``config.json``, or under the name of the file."""
    return weights.with_name(CONFIG) if weights.name in WEIGHT_FILES else weights.with_suffix('.json')
