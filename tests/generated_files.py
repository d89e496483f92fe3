"""What the tests of all generated data sets share."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(root: Path) -> dict[str, str]:
    """Hash of every file below a folder, by its path relative to it."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }
