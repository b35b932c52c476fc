"""What the CPU can do, and how a run shares it out: cores, arithmetic in bfloat16, memory."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)
# oneDNN's names of instruction sets, from the least on; ONEDNN_MAX_CPU_ISA names the largest that it may use.
ISAS = (
    *("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"),
    *("AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX10_1_512", "AVX512_CORE_FP16"),
    *("AVX512_CORE_AMX", "AVX10_1_512_AMX", "AVX512_CORE_AMX_FP16", "AVX10_1_512_AMX_FP16"),
)
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
# Units that compute in bfloat16: the flags a CPU has them by, and the instruction set that oneDNN needs for them.
BFLOAT16_UNITS = {
    "AMX": (("amx_tile", "amx_bf16"), "AVX512_CORE_AMX"),
    "AVX512-BF16": (("avx512_bf16",), "AVX512_CORE_BF16"),
}
WITHOUT_TORCH = "pip install 'sopose[train]', or give a file that sopose export wrote"
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # "quota period", or "max period"
MAX_WORKERS = 8  # more are seldom kept busy
# glibc's mallopt parameters
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
KEPT_BYTES = 2**31 - 1  # free memory at the heap's end that is kept
GROWN_BYTES = 64 * 2**20  # by which the heap grows at once


@dataclass(frozen=True)
class Machine:
    """A computer, as this process may use it."""

    cores: int
    bfloat16: str  # the units that compute in bfloat16, "" where float32 is as fast

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{cores} with {self.bfloat16}" if self.bfloat16 else f"{cores} without bfloat16 units"


def this_machine() -> Machine:
    """The cores that this process may use, and what oneDNN will use them for."""
    return Machine(usable_cores(), bfloat16_units(cpu_flags()))


def cpu_flags() -> list[str]:
    """What torch says of this CPU's instructions, those for bfloat16 among them."""
    import torch  # here and below: networks in other runtimes start without it

    if hasattr(torch.cpu, "get_capabilities"):
        return [name for name, has in torch.cpu.get_capabilities().items() if has]
    # Older releases of torch report only these, by functions of their own.
    amx = ["amx_tile", "amx_bf16"] if torch.cpu._is_amx_tile_supported() else []
    return [*amx, *(["avx512_bf16"] if torch.cpu._is_avx512_bf16_supported() else [])]


def has_fast_bfloat16() -> bool:
    """Whether convolutions on this CPU are faster in bfloat16 than in float32."""
    return bool(bfloat16_units(cpu_flags()))


def usable_cores() -> int:
    """The cores of this process: those it may run on, and no more than a container's share of time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_LIMIT.read_text().split()
        share = int(quota) // int(period)
    except (OSError, ValueError):  # another system, or no limit
        share = allowed
    return max(min(allowed, share), 1)


def bfloat16_units(flags: list[str]) -> str:
    """Which units of a CPU with some flags oneDNN computes in bfloat16 with, its limit in the environment included."""
    for units, (needed, isa) in BFLOAT16_UNITS.items():
        if not limited_below(isa) and all(flag in flags for flag in needed):
            return units
    return ""


def limited_below(isa: str) -> bool:
    """Whether the environment keeps oneDNN from an instruction set of `ISAS`."""
    limit = next((os.environ[name].upper() for name in ISA_LIMITS if name in os.environ), "")
    return limit in ISAS and ISAS.index(limit) < ISAS.index(isa)


@dataclass(frozen=True)
class Shares:
    """How the cores are shared out."""

    workers: int  # processes that prepare samples
    threads: int  # of this process, that compute


def share_cores(workers: int, threads: int, computes: bool) -> Shares:
    """Share the cores out between `workers` processes that prepare samples and the threads of this one.

    workers: -1 for half of the cores, a power of two; none for one core. threads: 0 for the cores that the workers
    leave, or what OMP_NUM_THREADS says: more than there are cores would wait for each other in every step. They are set
    where this process `computes` on the CPU. Several processes that torchrun started share the machine.
    """
    import torch

    cores = max(usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)), 1)
    if workers < 0:
        workers = min(2 ** ((cores // 2).bit_length() - 1), MAX_WORKERS) if cores > 1 else 0
    if computes and (threads or "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(threads or max(cores - workers, 1))
    return Shares(workers, torch.get_num_threads())


def compute_threads() -> int:
    """The threads that a runtime beside torch takes: as many as torch has, else OMP_NUM_THREADS or all cores."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(int(given), 1) if given.isdecimal() else usable_cores()


def has_torch() -> bool:
    """Whether torch is installed; estimating poses by .onnx files does without."""
    return importlib.util.find_spec("torch") is not None


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for what is asked for next; without effect on others than glibc's.

    By default it gives large blocks back at once. Each step of a training asks for the same ones again, and the system
    fills every page with zeros before it hands it out. MALLOC_* variables in the environment are left to say otherwise.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, KEPT_BYTES), (TOP_PAD, GROWN_BYTES)):
        mallopt(parameter, value)
