"""Packaging of resformer-mm.

The core needs PyTorch and MMEngine, the adapters mmcv and the OpenMMLab libraries. None of them
stands in ``install_requires``: each exists in several builds or under several distribution names,
and pip would put its choice in the place of the one that is there. ``resformer_mm`` checks for them
when it is imported.
"""

import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

ROOT = Path(__file__).resolve().parent
# What MIM and MMEngine (`get_config('resformer_mm::...')`) look for in the installed package.
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')
# Scripts that only make sense in a clone.
NOT_IN_MIM = (
    'install.sh',
    'missing_requirements.py',
    'quickstart.sh',
    'run_tests.sh',
    '__pycache__',
    '*.pyc',
)

ONEDL = [
    'onedl-mmengine==0.10.12',
    'onedl-mmcv==2.3.6',
    'onedl-mmpretrain==1.3.6',
    'onedl-mmsegmentation==1.4.2',
    'onedl-mmdetection==3.5.1',
    # mmaction2 has no fork. Its own metadata asks for a second OpenCV, hence only what it imports;
    # the library itself: pip install --no-deps mmaction2==1.2.0
    'decord>=0.6.0',
    'einops',
    'importlib-metadata',
    'matplotlib',
    'scipy',
]
OPENMMLAB = [
    'mmengine>=0.10.3,<1.0',
    'mmcv>=2.0.0,<2.2',
    'mmpretrain>=1.2.0,<2.0',
    'mmsegmentation>=1.2.0,<2.0',
    'mmdet>=3.2.0,<4.0',
    'mmaction2>=1.2.0,<2.0',
    'decord>=0.6.0',
    'importlib-metadata',
]
ANALYSIS = ['jinja2>=3', 'matplotlib>=3.7', 'plotly>=6']
DEMO = ['nicegui>=3.0']
DEPLOYMENT = ['onnx>=1.18', 'onnxruntime>=1.22', 'onnxscript>=0.5']
TESTS = [
    'pytest>=8',
    'pytest-timeout>=2',
    'ruff==0.17.6',
    'selenium>=4.20',
    'timm>=1.0',
    *ANALYSIS,
    *DEMO,
    *DEPLOYMENT,
]


def read_version() -> str:
    """Read the version without importing the package, whose dependencies may not be there yet."""
    text = (ROOT / 'resformer_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


# Everything built lies outside the source tree: a later wheel never picks up files that an earlier
# build left behind, and a clone stays clean.
_scratch = tempfile.TemporaryDirectory(prefix='resformer-mm-build-')


class Build(build):
    """Builds in a temporary folder."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = _scratch.name


class EggInfo(egg_info):
    """Writes the metadata to a temporary folder, unless told where."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.egg_base = _scratch.name


class BuildPy(build_py):
    """Puts the configs and tools into the wheel, under ``resformer_mm/.mim``."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'resformer_mm' / '.mim'
        for name in MIM_CONTENT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*NOT_IN_MIM))
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / name)


setup(
    name='resformer-mm',
    version=read_version(),
    description='ResFormer (multi-resolution vision transformers, CVPR 2023) for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['resformer_mm', 'resformer_mm.*']),
    include_package_data=True,
    install_requires=['numpy', 'pillow'],
    extras_require={
        'onedl': ONEDL,
        'openmmlab': OPENMMLAB,
        'analysis': ANALYSIS,
        'demo': DEMO,
        'deployment': DEPLOYMENT,
        'tests': TESTS,
    },
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    cmdclass={'build': Build, 'build_py': BuildPy, 'egg_info': EggInfo},
    zip_safe=False,
)
