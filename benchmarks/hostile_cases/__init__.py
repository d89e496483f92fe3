"""Files that a stranger could make to run code, fill the memory, or write outside the folder of a user."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from resformer_mm.operators import has_operators

from .case import Case

# Modules with cases, and the libraries that they need.
MODULES = {
    'checkpoints': (),
    'annotations': ('mmcv', 'mmdet'),
    'exports': ('mmcv',),
    'folders': ('mmcv', 'mmpretrain', 'mmaction'),
    'pictures': ('mmcv',),
    'clips': ('mmcv', 'mmaction'),
    'texts': ('mmcv',),
}


def possible_cases() -> list[Case]:
    """Return the cases whose libraries can be used here."""
    cases: list[Case] = []
    for name, libraries in MODULES.items():
        if all(find_spec(library) for library in libraries) and ('mmdet' not in libraries or has_operators()):
            cases += importlib.import_module(f'{__name__}.{name}').CASES
    return cases
