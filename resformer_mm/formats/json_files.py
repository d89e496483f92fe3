"""Reading of JSON files from strangers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from resformer_mm.datasets.regular_files import read_file

from .annotated import FormatError


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file in any Unicode encoding.

    Raises:
        FormatError: the file is not JSON, or nested too deeply.
        OSError: it cannot be read.
    """
    try:
        return json.loads(read_file(path))  # detects the encoding, and skips a byte order mark
    except (ValueError, RecursionError) as error:
        raise FormatError(f'{path} is not valid JSON ({error}): export it anew') from error


def looks_like(path: str | Path, *words: bytes) -> bool:
    """Whether a file has all words, in any Unicode encoding; False if it cannot be read."""
    try:
        content = read_file(path)
    except OSError:
        return False
    encoding = json.detect_encoding(content)
    if not encoding.startswith('utf-8'):
        content = content.decode(encoding, 'ignore').encode()
    return all(word in content for word in words)


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number; truth values are not."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < 2**31 and math.isfinite(value)


def is_points(value: Any) -> bool:
    """Whether a value is a list of points ``[x, y]``."""
    return isinstance(value, list) and all(
        isinstance(point, (list, tuple)) and len(point) == 2 and all(map(is_finite, point)) for point in value
    )
