"""Build of the wheel; the metadata are in ``pyproject.toml``."""

import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Scripts that only make sense in a clone.
CLONE_ONLY = ('install.sh', 'missing_requirements.py', 'quickstart.sh', 'run_tests.sh', 'test_stack.sh')


class BuildPy(build_py):
    """Puts what MIM and MMEngine's ``get_config`` look for into the wheel, in ``resformer_mm/.mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'resformer_mm' / '.mim'
        for folder in ('configs', 'tools'):
            shutil.copytree(
                folder, target / folder, ignore=shutil.ignore_patterns(*CLONE_ONLY, '__pycache__')
            )
        shutil.copy2('model-index.yml', target)


# Outside the source tree: a wheel never picks up what an earlier build left, and a clone stays clean.
with tempfile.TemporaryDirectory(prefix='resformer-mm-build-') as scratch:
    setup(
        cmdclass={'build_py': BuildPy},
        options={'build': {'build_base': scratch}, 'egg_info': {'egg_base': scratch}},
    )
