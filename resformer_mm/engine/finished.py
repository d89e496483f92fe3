"""Record of the resolutions at which a test is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resformer_mm.files import write_atomically
from resformer_mm.measured import for_json, is_number

FILE = 'finished_resolutions.json'


class FinishedResolutions:
    """Metrics of a test at the resolutions that are finished, in a JSON file.

    Tests of other models may be in the same file.

    Args:
        path: the file.
        fingerprint: of the model and the settings, see :func:`resformer_mm.fingerprint.fingerprint`.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def find(self, resolution: int, outputs: Sequence[str]) -> dict[str, float] | None:
        """Return the metrics at a resolution; None if it is not finished.

        Args:
            resolution: in pixels.
            outputs: files and folders that the test is to write at this resolution. It is not finished if
                one was not written then, or is not there any more.
        """
        entry = self._read().get(self.fingerprint, {}).get(str(resolution))
        if entry is None:
            return None
        if any(path not in entry['outputs'] or not Path(path).exists() for path in outputs):
            return None
        return {name: math.nan if value is None else value for name, value in entry['metrics'].items()}

    def add(self, resolution: int, metrics: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """Write the metrics at a resolution, unless one is infinite or not a number, which JSON lacks."""
        if any(not is_number(value) or math.isinf(value) for value in metrics.values()):
            return
        content = self._read()
        entry = {'metrics': metrics, 'outputs': list(outputs)}
        content.setdefault(self.fingerprint, {})[str(resolution)] = entry
        with write_atomically(self.path) as partial:
            partial.write_text(json.dumps(for_json(content), indent=1))

    def _read(self) -> dict[str, dict]:
        if not self.path.is_file():
            return {}
        try:
            return dict(json.loads(self.path.read_text()))
        except (TypeError, ValueError) as error:  # JSON of another form is damaged, too
            raise ValueError(f'{self.path} is damaged ({error}): delete it') from error
