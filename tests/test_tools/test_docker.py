"""The images are derived from the requirement files; they cannot be built in a test."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ('docker/Dockerfile', 'docker/cpu.Dockerfile')


def instructions(file: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, continued lines joined, without comments."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith('#')]
    joined = '\n'.join(lines).replace('\\\n', ' ')
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def stack(file: str) -> str:
    (found,) = re.findall(
        r'bash tools/install\.sh --stack (\w+)', ' '.join(rest for _, rest in instructions(file))
    )
    return found


def pins(name: str) -> dict[str, str]:
    text = (ROOT / 'requirements' / 'stacks' / f'{name}.txt').read_text()
    return dict(re.findall(r'^([\w-]+)==([\w.]+)', text, flags=re.M))


@pytest.mark.parametrize('file', FILES)
def test_an_image_installs_a_stack_from_its_requirement_files(file):
    parts = instructions(file)
    assert parts[0][0] == 'FROM'
    assert {name for name, _ in parts} <= {'FROM', 'ARG', 'ENV', 'RUN', 'WORKDIR', 'COPY'}
    assert ('COPY', '. .') in parts
    assert pins(stack(file))
    # Every version of a Python package is in the requirement files.
    assert not re.search(r'pip3? install|[a-z]==\d', (ROOT / file).read_text())


def test_the_image_for_gpus_has_the_pytorch_of_its_stack():
    (image,) = (rest for name, rest in instructions('docker/Dockerfile') if name == 'FROM')
    repository, _, tag = image.partition(':')
    assert repository == 'pytorch/pytorch'
    assert tag.split('-')[0] == pins(stack('docker/Dockerfile'))['torch']
    assert tag.endswith('-devel')  # with nvcc, which compiles the operators


def test_the_image_for_cpus_has_a_supported_python():
    (image,) = (rest for name, rest in instructions('docker/cpu.Dockerfile') if name == 'FROM')
    assert re.fullmatch(r'python:3\.1[0-3]-slim-\w+', image)


def test_what_the_images_need_is_not_ignored():
    lines = (ROOT / '.dockerignore').read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith('#')]
    needed = ['requirements', 'tools', 'configs', 'resformer_mm', 'pyproject.toml', 'setup.py', 'README.md']
    assert not [name for name in needed for pattern in ignored if fnmatch(name, pattern)]
    assert {'.git', '.venv', '.venv-openmmlab', 'work_dirs', 'data'} <= set(ignored)
