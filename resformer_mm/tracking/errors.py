"""Errors of trackers that cannot begin a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .settings import FIELD, LOCAL, PACKAGES


class TrackerError(ValueError):
    """A tracker cannot begin a run, e.g. without an account.

    The message names the tracker, the reason and a remedy.
    """


@contextlib.contextmanager
def tracker_errors() -> Iterator[None]:
    """Turn what the package of a tracker raises into an error of one line.

    Raises:
        TrackerError: the package of a tracker raised an error.
    """
    try:
        yield
    except Exception as error:  # each package has its own
        package = type(error).__module__.partition('.')[0]
        if package not in PACKAGES.values():
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TrackerError(
            f'{FIELD}: {package} cannot begin a run ({lines[0] if lines else type(error).__name__}): correct '
            f'its settings, or leave the tracker out with `--cfg-options {FIELD}={LOCAL}`'
        ) from error
