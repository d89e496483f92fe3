"""The installer's decisions and messages; nothing is downloaded or installed here."""

import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MISSING = ROOT / 'tools' / 'missing_requirements.py'
STACKS = ('onedl', 'openmmlab')
upstream_python = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason='the installer refuses the upstream stack on Python 3.12 and later'
)
EACH_STACK = pytest.mark.parametrize('stack', ['onedl', pytest.param('openmmlab', marks=upstream_python)])
# Stands for pip, for imports of what is not there, and for the check of the compiler's headers. The wheel of
# mmcv has the operators, unless the cache is used and contains one without.
FAKE = """\
case "$*" in
    '-m pip --version') exit 0 ;;
    '-m pip uninstall '*) echo "$*" >>{log} ;;
    '-m pip wheel '*)
        echo "$* MMCV_WITH_OPS=$MMCV_WITH_OPS" >>{log}
        while [ "$1" != -w ]; do shift; done
        case "$*" in *--no-cache-dir*) file=_ext.so ;; *) file={cached} ;; esac
        rm -rf {log}.d && mkdir -p "$2" {log}.d/mmcv && touch {log}.d/mmcv/$file
        cd {log}.d && {python} -m zipfile -c "$2/mmcv-0-any.whl" mmcv ;;
    '-m pip '*) echo "$* MMCV_WITH_OPS=$MMCV_WITH_OPS" >>{log} ;;
    '-c import cv2'* | '-c import mmcv.ops' | '-c import os, sysconfig'* | '-c import sys, torch'*) exit 0 ;;
    *) PYTHONPATH={site} exec {python} -S "$@" ;;
esac"""


def write_distributions(folder: Path, **versions: str) -> Path:
    for name, version in versions.items():
        metadata = folder / f'{name}-{version}.dist-info' / 'METADATA'
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    return folder


def missing(site: Path, *arguments: str) -> tuple[list[str], str]:
    """Run the script with ``site`` in the place of the site-packages."""
    result = subprocess.run(
        [sys.executable, '-S', str(MISSING), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'PYTHONPATH': str(site)},
        check=True,
    )
    return result.stdout.split(), result.stderr


def write_environment(folder: Path, body: str) -> Path:
    python = folder / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n{body}\n')
    python.chmod(0o755)
    return folder


def install(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ('VIRTUAL_ENV', 'CONDA_PREFIX', 'PYTHON')}
    return subprocess.run(
        ['bash', str(project / 'tools' / 'install.sh'), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment, **variables},
        check=False,
    )


def fake_environment(folder: Path, site: Path, cached: str = '_ext.so') -> Callable[[], list[str]]:
    """Make an environment whose pip only writes what it was asked for; return a function that reads that."""
    log = folder.parent / f'{folder.name}.log'
    write_environment(folder, FAKE.format(log=log, site=site, python=sys.executable, cached=cached))
    return lambda: log.read_text().splitlines() if log.exists() else []


def test_what_is_there_is_kept_under_either_name(tmp_path):
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text(
        'torch\nonedl-mmcv==2.3.6\nonedl-mmengine==0.10.12\n'
        'opencv-python  # one only\n\n# comment\nmmaction2\neinops\n'
    )
    pins = tmp_path / 'pins.txt'
    pins.write_text('torch==2.13.0\nopencv-python==4.12.0.88\nmmaction2==1.2.0\nplotly==7.1.0\n')
    site = write_distributions(
        tmp_path / 'site',
        torch='2.8.0+cu126',
        mmcv='2.1.0',
        onedl_mmengine='0.10.12',
        opencv_contrib_python_headless='4.10.0.84',
    )
    found, notes = missing(site, '--pins', str(pins), str(requirements))
    assert found == ['mmaction2==1.2.0', 'einops']
    assert 'keeping mmcv 2.1.0 (tested with onedl-mmcv==2.3.6)' in notes
    assert 'keeping torch 2.8.0+cu126 (tested with torch==2.13.0)' in notes
    assert 'mmengine' not in notes
    constraints, _ = missing(site, '--constraints', str(pins))
    kept = ['torch==2.8.0+cu126', 'mmcv==2.1.0', 'onedl-mmengine==0.10.12']
    kept.append('opencv-contrib-python-headless==4.10.0.84')
    assert sorted(constraints) == sorted([*kept, 'mmaction2==1.2.0', 'plotly==7.1.0'])


def test_exact_requirements_and_local_versions(tmp_path):
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text('ruff==0.17.6\ntorch==2.13.0\n')
    site = write_distributions(tmp_path / 'site', ruff='0.1.0', torch='2.13.0+cpu')
    assert missing(site, '--exact', str(requirements)) == (['ruff==0.17.6'], '')


def test_a_range_becomes_the_version_of_the_pins(tmp_path):
    requirements = tmp_path / 'extra.txt'
    requirements.write_text('plotly>=6\njinja2>=3\nonnx>=1.18\n')
    (tmp_path / 'pins.txt').write_text('# tested\nplotly==7.1.0\nonnx==1.23.2\n')
    (tmp_path / 'stacks').mkdir()
    stack = tmp_path / 'stacks' / 'one.txt'
    stack.write_text('-c ../pins.txt\ntorch==2.13.0\n')
    site = write_distributions(tmp_path / 'site', onnx='1.20.0')
    found, notes = missing(site, '--pins', str(stack), str(requirements))
    assert found == ['plotly==7.1.0', 'jinja2>=3']
    assert 'keeping onnx 1.20.0 (tested with onnx==1.23.2)' in notes
    exact, _ = missing(site, '--exact', '--pins', str(stack), str(requirements))
    assert exact == ['plotly==7.1.0', 'jinja2>=3', 'onnx==1.23.2']


def test_markers_of_pins_choose_by_the_version_of_python(tmp_path):
    minor = sys.version_info.minor
    requirements = tmp_path / 'requirements.txt'
    requirements.write_text(
        f'a==1; python_version >= "3.{minor + 1}"\na==2; python_version < "3.{minor + 1}"\n'
    )
    assert missing(tmp_path, str(requirements))[0] == ['a==2']


def test_markers_choose_by_the_platform(tmp_path):
    requirements = tmp_path / 'requirements.txt'
    here = f'sys_platform == "{sys.platform}" and platform_machine == "{platform.machine()}"'
    elsewhere = f'sys_platform != "{sys.platform}" or platform_machine != "{platform.machine()}"'
    requirements.write_text(f'a==1; {here} or sys_platform == "win31"\nb==1; {elsewhere}\n')
    assert missing(tmp_path, str(requirements))[0] == ['a==1']


def test_torchvision_follows_a_torch_of_another_version(tmp_path):
    site = write_distributions(tmp_path / 'site', torch='2.8.0')
    pins = ROOT / 'requirements' / 'stacks' / 'onedl.txt'
    assert 'torchvision' in missing(site, '--pins', str(pins), str(ROOT / 'requirements' / 'torch.txt'))[0]
    constraints, _ = missing(site, '--constraints', str(pins))
    assert 'torch==2.8.0' in constraints and not [c for c in constraints if c.startswith('torchvision')]


def test_operators_are_found_without_importing_mmcv(tmp_path):
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('raise ImportError')
    assert missing(tmp_path, '--operators')[0] == ['none']
    (package / '_ext.cpython-311-x86_64-linux-gnu.so').touch()
    assert missing(tmp_path, '--operators')[0] == ['compiled']


def test_project_of_another_folder_does_not_count(tmp_path):
    site = write_distributions(tmp_path / 'site', resformer_mm='0.1.0')
    origin = site / 'resformer_mm-0.1.0.dist-info' / 'direct_url.json'
    for project, answer in ((tmp_path, []), (ROOT, ['missing'])):
        origin.write_text(f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}')
        assert missing(site, '--project', str(project))[0] == answer


def lines_of(file: Path) -> list[str]:
    lines = (line.split('#')[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith('-c ')]


def name_of(line: str) -> str:
    return re.split('[=<>; ]', line)[0]


def test_requirement_files_agree():
    files = {file.stem: lines_of(file) for file in (ROOT / 'requirements').glob('*.txt')}
    pins = files.pop('pins')
    del files['openmmlab']  # instead of onedl.txt
    wanted = [line for lines in files.values() for line in lines]
    assert len({name_of(line) for line in wanted}) == len(set(wanted))  # the same wherever a package is named
    assert {name_of(line) for line in pins} <= {name_of(line) for line in wanted}


@pytest.mark.parametrize('stack', STACKS)
def test_stacks_pin_what_decides_about_the_build(stack):
    pins = {name_of(line) for line in lines_of(ROOT / 'requirements' / 'stacks' / f'{stack}.txt')}
    libraries = lines_of(ROOT / 'requirements' / f'{stack}.txt')
    pins |= {name_of(line) for line in libraries if '==' in line}
    assert {name_of(line) for line in libraries} <= pins
    assert {'torch', 'torchvision', 'numpy', 'opencv-python', 'setuptools'} <= pins


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / 'project'
    for name in ('tools', 'requirements'):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def test_no_usable_python(project):
    result = install(project, PYTHON='/nowhere/python3')
    assert result.returncode == 1
    assert 'error: no usable Python: /nowhere/python3 is missing' in result.stderr


def test_python_of_the_active_environment_is_too_old(project, tmp_path):
    environment = write_environment(tmp_path / 'env', 'exit 1')
    result = install(project, VIRTUAL_ENV=str(environment))
    assert result.returncode == 1
    assert 'is missing or not of version 3.10 to 3.13' in result.stderr


def test_python_without_venv(project, tmp_path):
    # An interpreter of a fitting version, all of whose modules are missing.
    environment = write_environment(tmp_path / 'env', '[ "$1" = -m ] && exit 1\nexit 0')
    result = install(project, PYTHON=str(environment / 'bin' / 'python'))
    assert result.returncode == 1
    assert 'its module venv or ensurepip is missing' in result.stderr
    assert not (project / '.venv').exists()


def test_no_compiler(project, tmp_path):
    environment = write_environment(tmp_path / 'env', f'exec {sys.executable} -S "$@"')
    result = install(project, VIRTUAL_ENV=str(environment), CXX='no-such-compiler')
    assert result.returncode == 1
    assert 'error: no C++ compiler (no-such-compiler)' in result.stderr


def test_conda_environment_is_used(project, tmp_path):
    environment = write_environment(tmp_path / 'env', f'exec {sys.executable} -S "$@"')
    result = install(project, CONDA_PREFIX=str(environment), CXX='no-such-compiler')
    assert f'using {environment}/bin/python' in result.stdout


def test_python_that_does_not_run_is_passed_over(project, tmp_path):
    # Like the commands of pyenv for versions that are not chosen. The one that runs has no module venv.
    shims = write_environment(tmp_path / 'shims', 'exit 127') / 'bin'
    for name in ('python3', 'python3.10', 'python3.11', 'python3.12', 'python3.13'):
        shutil.copy(shims / 'python', shims / name)
    (shims / 'python').unlink()
    usable = tmp_path / 'pyenv' / 'versions' / '3.11.7'
    write_environment(usable, '[ "$1" = -m ] && exit 1\necho 3.11.7\nexit 0')
    path = f'{shims}:/usr/bin:/bin'
    if shutil.which('python', path='/usr/bin:/bin'):
        pytest.skip('this machine has a python in /usr/bin, which comes first')
    result = install(project, PATH=path, PYENV_ROOT=str(tmp_path / 'pyenv'))
    assert f'{usable}/bin/python cannot make a virtual environment' in result.stderr


def test_upstream_needs_a_python_that_pytorch_2_1_has_builds_for(project, tmp_path):
    (tmp_path / 'site').mkdir()
    read = fake_environment(tmp_path / 'env', tmp_path / 'site')
    python = tmp_path / 'env' / 'bin' / 'python'
    # A Python 3.12: the check of 3.10 to 3.11 fails, that of 3.10 to 3.13 does not.
    python.write_text(
        python.read_text().replace(
            'case "$*" in', 'case "$*" in\n*"(3, 11)"*) exit 1 ;;\n*"(3, 13)"*) exit 0 ;;', 1
        )
    )
    result = install(project, '--stack', 'openmmlab', VIRTUAL_ENV=str(tmp_path / 'env'))
    assert result.returncode == 1 and not read()
    assert (
        "the stack 'openmmlab' needs Python 3.10 or 3.11 (PyTorch 2.1 has no builds for later ones)"
        in result.stderr
    )


@pytest.mark.parametrize(('held', 'other'), [('mmengine', 'onedl'), ('onedl_mmengine', 'openmmlab')])
def test_another_stack_is_named_and_not_replaced(project, tmp_path, held, other):
    site = write_distributions(tmp_path / 'site', **{held: '0.10.7', 'mmaction2': '1.2.0'})
    read = fake_environment(tmp_path / 'env', site)
    result = install(project, '--stack', other, VIRTUAL_ENV=str(tmp_path / 'env'))
    assert result.returncode == 1 and not read()
    assert re.search(f"holds the stack '.*', not '{other}'", result.stderr)
    assert f'{held.replace("_", "-")} 0.10.7' in result.stderr


def test_mixed_stacks_are_refused(project, tmp_path):
    site = write_distributions(tmp_path / 'site', mmcv='2.1.0', onedl_mmengine='0.10.12')
    read = fake_environment(tmp_path / 'env', site)
    result = install(project, VIRTUAL_ENV=str(tmp_path / 'env'))
    assert result.returncode == 1 and not read()
    assert 'mixes both stacks' in result.stderr and 'mmcv 2.1.0, onedl-mmengine 0.10.12' in result.stderr


@pytest.mark.parametrize('arguments', [('--stack', 'other'), ('--stack',), ('detecton',)])
def test_unknown_arguments(project, arguments):
    result = install(project, *arguments)
    assert result.returncode == 2
    assert 'usage: bash tools/install.sh [--stack onedl|openmmlab]' in result.stderr


@EACH_STACK
def test_classification_alone_compiles_nothing(project, tmp_path, stack):
    (tmp_path / 'site').mkdir()
    read = fake_environment(tmp_path / 'env', tmp_path / 'site')
    arguments = ('--stack', stack, 'classification')
    result = install(project, *arguments, VIRTUAL_ENV=str(tmp_path / 'env'), CXX='no-such-compiler')
    assert result.returncode == 0, result.stderr
    assert 'activate' not in result.stdout
    calls = read()
    assert all(call.startswith('-m pip install') for call in calls)
    words = {name_of(word) for call in calls for word in call.split()}
    prefix = 'onedl-' if stack == 'onedl' else ''
    assert {'torch', 'torchvision', 'opencv-python', f'{prefix}mmengine', f'{prefix}mmpretrain'} <= words
    unneeded = {'decord', 'plotly', 'pycocotools', 'mmaction2', 'imaug'}
    unneeded |= {name for name in words if re.search('mmseg|mmdet', name)}
    assert not words & unneeded
    (mmcv,) = (call for call in calls if 'mmcv' in call.split('MMCV_WITH_OPS')[0])
    # pip's cache does not distinguish the builds. Nothing is compiled: PyTorch is out of reach, or upstream's
    # variable says so.
    assert '--no-cache-dir' in mmcv
    if stack == 'onedl':
        assert 'onedl-mmcv==' in mmcv and '--no-build-isolation' not in mmcv
    else:
        assert 'mmcv-lite==' in mmcv and mmcv.endswith('MMCV_WITH_OPS=0')


@EACH_STACK
@pytest.mark.parametrize('cached', ['_ext.so', 'no_operators.py'])
def test_mmcv_of_the_own_environment_gets_operators(project, tmp_path, stack, cached):
    site = tmp_path / 'site'
    name = 'onedl_mmcv' if stack == 'onedl' else 'mmcv_lite'
    write_distributions(site, **{name: '2.1.0'})
    (site / 'mmcv').mkdir()
    own = project / ('.venv' if stack == 'onedl' else '.venv-openmmlab')
    read = fake_environment(own, site, cached)
    result = install(project, '--stack', stack, CXX='sh')
    assert result.returncode == 0, result.stderr
    assert f'source {own}/bin/activate' in result.stdout
    builds = [call for call in read() if call.startswith('-m pip wheel')]
    # A cached build without operators is not taken for the complete one.
    assert len(builds) == (1 if cached == '_ext.so' else 2)
    assert all('MMCV_WITH_OPS=1' in call and '--no-build-isolation' in call for call in builds)
    assert ('--no-cache-dir' in builds[-1]) == (len(builds) == 2)
    steps = [call for call in read() if name.replace('_', '-') in call or '.whl' in call]
    assert 'uninstall' in steps[-2] and re.search(r'install .*/wheel/mmcv-0-any\.whl', steps[-1])


@upstream_python
def test_mmcv_of_another_environment_is_kept(project, tmp_path):
    site = write_distributions(tmp_path / 'site', mmcv_lite='2.1.0')
    (site / 'mmcv').mkdir()
    read = fake_environment(tmp_path / 'env', site)
    environment = {'VIRTUAL_ENV': str(tmp_path / 'env'), 'CXX': 'sh'}
    result = install(project, **environment)
    assert result.returncode == 1 and not read()
    assert 'mmcv is installed without operators' in result.stderr
    assert 'pip uninstall mmcv-lite' in result.stderr
    result = install(project, 'classification', 'video', **environment)
    assert result.returncode == 0, result.stderr
    assert read() and not [word for call in read() for word in call.split() if name_of(word) == 'mmcv']


def progress(log: Path, seconds: int, jobs: int = 2) -> str:
    command = f'source {ROOT}/tools/install.sh; compile_progress {log} {seconds} {jobs}'
    result = subprocess.run(['bash', '-c', command], capture_output=True, text=True, timeout=60, check=True)
    return result.stdout


def test_time_left_follows_from_the_speed_so_far(tmp_path):
    log = tmp_path / 'build.log'
    log.write_text("building 'mmcv._ext' extension\n")
    assert progress(log, 50) == ''
    lines = [f'  [{n}/80] c++ -c mmcv/ops/file{n}.cpp -o file{n}.o\n' for n in range(1, 81)]
    log.write_text(''.join(lines[:3]))
    assert progress(log, 90).endswith('] file 3 of 80')  # too early for an estimate
    log.write_text(''.join(lines[:20]))
    assert progress(log, 600) == '[######..................] file 20 of 80, about 30 min left at this speed'
    assert progress(log, 1200).endswith('about 60 min left at this speed')
    assert progress(log, 600, jobs=16).endswith('] file 20 of 80')


def test_progress_without_ninja(tmp_path):
    log = tmp_path / 'build.log'
    log.write_text(''.join(f'gcc -Wall -c mmcv/ops/file{n}.cpp -o file{n}.o\n' for n in range(7)))
    assert progress(log, 600) == '7 files compiled, of an unknown number'


def test_stack_of_the_tests_must_be_named():
    command = ['bash', str(ROOT / 'tools' / 'test_stack.sh'), '-k', 'name']
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2 and 'onedl|openmmlab' in result.stderr


@pytest.mark.parametrize(
    ('stack', 'build', 'command'),
    [
        ('openmmlab', '2.1.2 12.1 3.10', 'mim install mmcv==2.1.0'),
        ('openmmlab', '2.1.0 cpu 3.11', 'mim install mmcv==2.1.0'),
        ('openmmlab', '2.1.2 12.4 3.10', None),
        ('openmmlab', '2.5.1 cpu 3.10', None),
        ('openmmlab', '2.1.2 cpu 3.12', None),
        ('onedl', '2.8.0 12.9 3.10', 'mim install onedl-mmcv'),
        ('onedl', '2.13.0 cpu 3.11', None),
    ],
)
def test_prebuilt_wheels_are_named_where_they_should_fit(tmp_path, stack, build, command):
    environment = write_environment(tmp_path / 'env', f'echo {build}')
    (environment / 'bin' / 'uname').write_text('#!/bin/sh\necho Linux x86_64\n')
    (environment / 'bin' / 'uname').chmod(0o755)
    script = f'source {ROOT}/tools/install.sh; STACK={stack} PY={environment}/bin/python hint_prebuilt'
    result = subprocess.run(
        ['bash', '-c', script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'PATH': f'{environment}/bin:{os.environ["PATH"]}'},
        check=True,
    )
    assert command in result.stdout if command else not result.stdout


def test_markers_that_are_not_understood() -> None:
    holds = runpy.run_path(str(MISSING))['holds']
    assert holds('python_version >= "3.1"')
    with pytest.raises(ValueError, match='a marker other than python_version .*: os_name == "nt"'):
        holds('os_name == "nt"')
