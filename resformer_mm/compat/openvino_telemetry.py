"""Imports OpenVINO without its telemetry.

OpenVINO 2026.4 sends an event to a server on the network when it is imported, and makes a folder in the
user's home, if the package ``openvino-telemetry``, which pip installs with it, can be imported. Without that
package it uses a stand-in that does nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ['import_openvino']

_TELEMETRY = 'openvino_telemetry'


def import_openvino() -> ModuleType:
    """Return the package ``openvino``; nothing changes if it or its telemetry is imported already.

    Raises:
        ImportError: OpenVINO is missing.
    """
    if 'openvino' in sys.modules or _TELEMETRY in sys.modules:
        return importlib.import_module('openvino')
    modules: dict[str, Any] = sys.modules
    modules[_TELEMETRY] = None  # makes its import fail
    try:
        return importlib.import_module('openvino')
    finally:
        del modules[_TELEMETRY]
