"""An mmcv without compiled operators: what is refused, and what the error says."""

from __future__ import annotations

import pytest
from test_registry import check

pytestmark = [pytest.mark.libraries, pytest.mark.slow]

# After this code, the operators seem to be missing, whatever is installed.
WITHOUT = """
import sys
sys.modules['mmcv._ext'] = None
import pytest
from resformer_mm import libraries, operators, registry
assert not operators.has_operators()
"""


@pytest.mark.parametrize('library', ['mmdet', 'mmseg'])
def test_a_library_that_needs_them_is_refused_with_the_remedy(library: str) -> None:
    code = f"""
import importlib
try:
    libraries.import_library({library!r}, 'this')
except operators.MissingOperatorsError as error:
    assert "this: {library} needs the compiled operators of mmcv" in str(error), error
    assert 'mmcv._ext' in str(error) and 'bash tools/install.sh' in str(error), error
    table = registry.AdapterRegistry('model', {{'Unseen': ('unseen', {library!r})}})
    with pytest.raises(operators.MissingOperatorsError, match="^'resformer_mm.Unseen': {library} needs the"):
        table.get('Unseen')
else:
    assert {library!r} == 'mmseg', 'mmdet.models does not import without operators'
    importlib.import_module('mmseg.models')
"""
    check(WITHOUT + code)


def test_classification_and_video_work_without() -> None:
    code = """
for name in ('MultiResolutionClassifier', 'MultiResolutionRecognizer'):
    assert registry.MODELS.get(name).__name__ == name
"""
    check(WITHOUT + code)


def test_only_installed_libraries_are_checked() -> None:
    check(WITHOUT + "operators.require_operators('not_installed')")


@pytest.mark.operators('mmdet')
def test_operators_that_load_are_accepted() -> None:
    check("from resformer_mm import libraries\nlibraries.import_library('mmdet', 'this')")
