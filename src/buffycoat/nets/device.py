"""The device of a job: which GPU it may use, held by nobody else, and the precision that suits it."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import torch

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("buffycoat")
_held_slots: list[IO[str]] = []
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Options of glibc's mallopt (malloc.h)."""


def visible_gpus() -> list[str]:
    """Return the GPUs this process may use: those of CUDA_VISIBLE_DEVICES where it is set, otherwise all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(index) for index in range(torch.cuda.device_count())]


@contextmanager
def _slot_lock(path: Path) -> Iterator[IO[str] | None]:
    """Yield an open file that holds the lock of one GPU, or None where another process holds it."""
    stream = path.open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        yield None
    else:
        yield stream


def claim_gpu(gpus: list[str], folder: Path, wait_s: float = 1.0) -> str:
    """Wait for a GPU that no other job of this user holds, keep it until this process ends, return its name.

    Snakemake counts GPUs but does not say which one a local job may use; a lock per GPU does. Where the system has no
    such locks, it is the first.
    """
    if fcntl is None:
        return gpus[0]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    waited = False
    while True:
        for gpu in gpus:
            with _slot_lock(folder / f"gpu-{gpu.replace('/', '_')}.lock") as slot:
                if slot is not None:
                    _held_slots.append(slot)
                    return gpu
        if not waited:
            log.info("waiting for a free GPU among %s", ", ".join(gpus))
        waited = True
        time.sleep(wait_s)


def pick_device() -> torch.device:
    """Return the GPU of this job where there is one, otherwise the CPU; a GPU is held until the process ends."""
    if _held_slots:
        return torch.device("cuda", torch.cuda.current_device())
    # Asked of the environment first: once CUDA has started, CUDA_VISIBLE_DEVICES is no longer read.
    gpus = visible_gpus()
    if gpus and torch.cuda.is_available():
        folder = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"buffycoat-gpus-{getattr(os, 'getuid', int)()}"
        index = gpus.index(claim_gpu(gpus, folder))
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        log.info("device: %s (%s)", torch.cuda.get_device_name(device), gpus[index])
        return device
    if os.environ.get("BUFFYCOAT_REQUIRE_GPU"):
        raise RuntimeError(f"BUFFYCOAT_REQUIRE_GPU is set, but torch {torch.__version__} sees no GPU")
    keep_freed_memory()
    log.info("device: CPU, %d threads", torch.get_num_threads())
    return torch.device("cpu")


def mixed_precision(device: torch.device, bf16_on_cpu: bool = False) -> AbstractContextManager[Any]:
    """Return the autocast context of a device: bfloat16 on GPUs that have it, float32 on CPUs unless asked."""
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bf16_on_cpu
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def worth_compiling(wish: str, device: torch.device) -> bool:
    """Return whether to compile a network: `always`, `never`, or `auto`, on GPUs only."""
    return wish == "always" or (wish == "auto" and device.type == "cuda")


def keep_freed_memory() -> None:
    """Make the C library keep the memory that tensors give back, instead of asking the system anew at every step.

    On a CPU the pages of fresh memory cost up to a third of a training step. Other C libraries than glibc are left
    as they are.
    """
    try:
        libc = ctypes.CDLL(None)
    except TypeError:  # Windows: it wants a name
        return
    if hasattr(libc, "mallopt"):
        for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 200_000_000)):
            libc.mallopt(option, value)
