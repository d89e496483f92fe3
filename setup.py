"""Build of the wheel; the metadata are in ``pyproject.toml``."""

import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PACKAGE = Path(__file__).resolve().parent / 'resformer_mm'
# Scripts that only make sense in a clone.
CLONE_ONLY = ('install.sh', 'missing_requirements.py', 'quickstart.sh', 'run_tests.sh', 'test_stack.sh')


class BuildPy(build_py):
    """Puts what MIM and MMEngine's ``get_config`` look for into the wheel, in ``resformer_mm/.mim``.

    In a clone, that folder consists of links.
    """

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


class EditableWheel(editable_wheel):
    """Tells where the package of an editable install is.

    MMEngine up to 0.10.7 and MIM expect the package beside its metadata, in site-packages, under the name in
    the first line of ``top_level.txt``. They join the two with ``os.path.join``, so that an absolute path is
    found.
    """

    def run(self) -> None:
        if self.dist_info_dir is None:  # not prepared by pip
            dist_info = self.reinitialize_command('dist_info')
            dist_info.output_dir = self.dist_dir
            dist_info.ensure_finalized()
            dist_info.run()
            self.dist_info_dir = dist_info.dist_info_dir
        Path(self.dist_info_dir, 'top_level.txt').write_text(f'{PACKAGE}\n{PACKAGE.name}\n', encoding='utf-8')
        super().run()


# Outside the source tree: a wheel never picks up what an earlier build left, and a clone stays clean.
with tempfile.TemporaryDirectory(prefix='resformer-mm-build-') as scratch:
    setup(
        license='Apache-2.0',
        cmdclass={'build_py': BuildPy, 'editable_wheel': EditableWheel},
        options={'build': {'build_base': scratch}, 'egg_info': {'egg_base': scratch}},
    )
