"""Import of scikit-learn, which only the evaluation of features needs."""

from __future__ import annotations

import importlib


def import_sklearn() -> None:
    """Make sure that scikit-learn is there.

    Raises:
        ImportError: it is missing.
    """
    try:
        importlib.import_module('sklearn')
    except ImportError as error:
        raise ImportError(
            "classifiers on features need scikit-learn: pip install 'resformer-mm[features]', or pip install "
            'scikit-learn'
        ) from error
