"""Description of the processor, from recorded files of Linux, and the environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from resformer_mm.environment import machine

X86 = 'processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu sse2 avx2 {flags}\n\nprocessor\t: 1\n'
ARM = 'processor\t: 0\nFeatures\t: fp asimd sve {flags}\n'


@pytest.fixture
def cpu_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, 'CPU_INFO', tmp_path / 'cpuinfo')
    return tmp_path / 'cpuinfo'


@pytest.mark.parametrize(
    ('text', 'native', 'sets'),
    [
        (X86.format(flags=''), False, ['AVX2']),
        (X86.format(flags='avx512f avx512_bf16'), True, ['AVX2', 'AVX-512', 'AVX512-BF16']),
        (X86.format(flags='amx_tile amx_bf16'), True, ['AVX2', 'AMX', 'AMX-BF16']),
        (ARM.format(flags=''), False, ['NEON', 'SVE']),
        (ARM.format(flags='bf16'), True, ['NEON', 'SVE', 'BF16']),
    ],
)
def test_instruction_sets_and_bfloat16(cpu_info: Path, text: str, native: bool, sets: list[str]) -> None:
    cpu_info.write_text(text)
    facts = machine.processor()
    assert facts['instruction sets'] == sets
    assert machine.has_native_bfloat16() is native
    assert str(facts['bfloat16']).startswith('native' if native else 'emulated')


@pytest.mark.parametrize(
    ('ratio', 'text'),
    [
        (None, 'unknown'),
        (2.71, 'unknown instructions, a matrix product takes 2.7 times as long as in float32'),
    ],
)
def test_other_systems_are_measured(
    cpu_info: Path, monkeypatch: pytest.MonkeyPatch, ratio: float | None, text: str
) -> None:
    monkeypatch.setattr(machine, 'product_ratio', lambda kind: ratio)
    assert machine.has_native_bfloat16() is None
    facts = machine.processor()
    assert facts['instruction sets'] == 'unknown'
    assert str(facts['bfloat16']).startswith(text)


def test_variables_that_matter_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'MY_SECRET_TOKEN'):
        monkeypatch.setenv(name, '1')
    found = machine.variables()
    assert found['OMP_NUM_THREADS'] == found['CUDA_VISIBLE_DEVICES'] == '1'
    assert 'MY_SECRET_TOKEN' not in found and 'HOME' not in found


def test_gpus_are_those_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert machine.gpus() == []
    program = tmp_path / 'nvidia-smi'
    program.write_text('#!/bin/sh\necho "A GPU, 81559 MiB, 580.1"\necho "A GPU, 81559 MiB, 580.1"\n')
    program.chmod(0o755)
    assert machine.gpus() == ['A GPU, 81559 MiB, 580.1'] * 2
