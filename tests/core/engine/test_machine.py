"""What the CPU computes in, and how its cores are shared out."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from sopose.core.engine import machine
from sopose.core.engine.machine import bfloat16_units, cpu_flags, has_fast_bfloat16, share_cores, usable_cores

GENOA = ["avx2", "avx512_f", "avx512_bf16"]
SAPPHIRE_RAPIDS = [*GENOA, "amx_tile", "amx_bf16", "amx_int8"]


@pytest.fixture
def no_limits(monkeypatch):
    for name in (*machine.ISA_LIMITS, "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("flags", "limit", "units"),
    [
        (SAPPHIRE_RAPIDS, None, "AMX"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_AMX", "AMX"),
        (SAPPHIRE_RAPIDS, "avx512_core_bf16", "AVX512-BF16"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE", ""),
        (SAPPHIRE_RAPIDS, "AVX2", ""),
        (SAPPHIRE_RAPIDS, "DEFAULT", "AMX"),
        (GENOA, None, "AVX512-BF16"),
        (GENOA, "AVX512_CORE_AMX", "AVX512-BF16"),
        (GENOA, "AVX512_CORE", ""),
        (["avx2"], None, ""),
        ([], "ALL", ""),
    ],
)
def test_units_are_those_that_the_cpu_has_and_the_limit_allows(no_limits, flags, limit, units):
    if limit is not None:
        no_limits.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert bfloat16_units(flags) == units


def test_older_releases_of_torch_report_it_otherwise(monkeypatch):
    """Releases before `get_capabilities` have a function for each of two."""
    cpu = SimpleNamespace(_is_amx_tile_supported=lambda: False, _is_avx512_bf16_supported=lambda: True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cpu=cpu))
    assert cpu_flags() == ["avx512_bf16"]


def test_a_limit_of_onednn_makes_bfloat16_slow(no_limits):
    no_limits.setattr(machine, "cpu_flags", lambda: SAPPHIRE_RAPIDS)
    assert has_fast_bfloat16()
    no_limits.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not has_fast_bfloat16()


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        (1, -1, (0, 1)),
        (2, -1, (1, 1)),
        (4, -1, (2, 2)),
        (6, -1, (2, 4)),
        (16, -1, (8, 8)),
        (64, -1, (8, 56)),
        (2, 2, (2, 1)),
        (2, 0, (0, 2)),
    ],
)
def test_threads_take_the_cores_that_workers_leave(no_limits, cores, workers, shares):
    no_limits.setattr(machine, "usable_cores", lambda: cores)
    found = share_cores(workers, 0, computes=True)
    assert (found.workers, found.threads) == shares
    assert torch.get_num_threads() == found.threads


def test_processes_of_one_machine_share_its_cores(no_limits):
    no_limits.setattr(machine, "usable_cores", lambda: 8)
    no_limits.setenv("LOCAL_WORLD_SIZE", "2")
    found = share_cores(-1, 0, computes=True)
    assert (found.workers, found.threads) == (2, 2)


def test_what_the_user_says_of_threads_counts(no_limits):
    before = torch.get_num_threads()
    assert share_cores(1, 3, computes=True).threads == 3
    torch.set_num_threads(before)
    no_limits.setenv("OMP_NUM_THREADS", str(before))
    assert share_cores(0, 0, computes=True).threads == before
    no_limits.delenv("OMP_NUM_THREADS")
    assert share_cores(0, 0, computes=False).threads == before


def test_a_containers_share_of_time_counts(no_limits, tmp_path):
    limit = tmp_path / "cpu.max"
    no_limits.setattr(machine, "CGROUP_LIMIT", limit)
    everything = usable_cores()
    for text, cores in (("100000 100000", 1), ("max 100000", everything), ("5000 100000", 1), ("", everything)):
        limit.write_text(text)
        assert usable_cores() == cores


FAULTS = """
import resource, torch
from sopose.core.engine.machine import keep_freed_memory
{act}
def work():
    for _ in range(20):
        torch.empty(16_000_000).fill_(1.0)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is Linux's")
def test_freed_memory_is_kept_for_the_next_step(no_limits):
    """64 MB, asked for again and again, cost a page fault each 4 KiB, or each 2 MiB with huge pages."""
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(act=act)], capture_output=True, check=True).stdout)
        for act in ("", "keep_freed_memory()")
    ]
    assert faults[0] > 200 and faults[1] < faults[0] / 10
