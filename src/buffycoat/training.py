"""Pieces that trainings share: device, precision, seed, resumable checkpoint, history. Not a trainer."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from buffycoat.files import sha256_of, whole_file
from buffycoat.randomness import stream_seed
from buffycoat.settings import Settings

log = logging.getLogger("buffycoat")
_held_slots: list[IO[str]] = []


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

    Snakemake counts GPUs but does not say which one a local job may use; a lock per GPU does.
    """
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
        return torch.device("cuda", 0)
    # Asked of the environment first: once CUDA has started, CUDA_VISIBLE_DEVICES is no longer read.
    gpus = visible_gpus()
    if gpus and torch.cuda.is_available():
        folder = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"buffycoat-gpus-{os.getuid()}"
        index = gpus.index(claim_gpu(gpus, folder))
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        log.info("device: %s (%s)", torch.cuda.get_device_name(device), gpus[index])
        return device
    if os.environ.get("BUFFYCOAT_REQUIRE_GPU"):
        raise RuntimeError(f"BUFFYCOAT_REQUIRE_GPU is set, but torch {torch.__version__} sees no GPU")
    log.info("device: CPU, %d threads", torch.get_num_threads())
    return torch.device("cpu")


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return the autocast context of a device: bfloat16 on GPUs that have it, float32 on CPUs."""
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def seed_torch(seed: int, *names: str | int) -> None:
    """Seed torch for what `names` say, for instance (seed, "train", step): no state to save, none to lose."""
    torch.manual_seed(stream_seed(seed, *names))


def fingerprint(settings: Settings, inputs: Mapping[str, Path], code: str, **others: str | int) -> str:
    """Return a digest of all that a training depends on: settings, contents of input files, code, and the rest."""
    parts = {name: sha256_of(path) for name, path in sorted(inputs.items())}
    content = [settings.model_dump(mode="json"), parts, code, sorted(others.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _flatten(state: Any, prefix: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of a nested state to `tensors`; return the rest, with a marker where each one stood."""
    if isinstance(state, torch.Tensor):
        tensors[prefix] = state.detach().cpu().contiguous().clone()
        return {"__tensor__": prefix}
    if isinstance(state, Mapping):
        return {"__dict__": [[key, _flatten(value, f"{prefix}/{key}", tensors)] for key, value in state.items()]}
    if isinstance(state, (list, tuple)):
        return [_flatten(value, f"{prefix}/{index}", tensors) for index, value in enumerate(state)]
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(f"a checkpoint cannot hold {type(state).__name__} at {prefix}")


def _unflatten(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(state, dict) and "__tensor__" in state:
        return tensors[state["__tensor__"]]
    if isinstance(state, dict):
        return {key: _unflatten(value, tensors) for key, value in state["__dict__"]}
    if isinstance(state, list):
        return [_unflatten(value, tensors) for value in state]
    return state


class Checkpoint:
    """The state of an interrupted training: one safetensors file, never a declared output (Snakemake deletes those)."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Keep the path, and the fingerprint that a stored state must carry to be used."""
        self.path, self.fingerprint = path, fingerprint

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a nested state of tensors, numbers and texts, whole or not at all."""
        tensors: dict[str, torch.Tensor] = {}
        structure = json.dumps(_flatten(state, "state", tensors))
        with whole_file(self.path) as partial:
            save_file(tensors, partial, {"structure": structure, "fingerprint": self.fingerprint})

    def load(self) -> dict[str, Any] | None:
        """Return the stored state; None where there is none, it belongs to other inputs, or it is damaged."""
        if not self.path.exists():
            return None
        try:
            with safe_open(str(self.path), "pt") as stored:
                about = stored.metadata() or {}
                if about.get("fingerprint") != self.fingerprint:
                    log.info("%s belongs to other settings, inputs or code: starting anew", self.path)
                    return None
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as problem:
            log.warning("%s is damaged (%s): starting anew", self.path, problem)
            return None
        state: dict[str, Any] = _unflatten(json.loads(about["structure"]), tensors)
        return state

    def remove(self) -> None:
        """Delete the file: the training has ended and its outputs are written."""
        self.path.unlink(missing_ok=True)


def write_weights(model_state: Mapping[str, torch.Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write weights as safetensors; `about` goes into the header as JSON under 'buffycoat'."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model_state.items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, {"buffycoat": json.dumps(about, sort_keys=True)})


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the JSON header of a weights file; raises InputError where it is missing or damaged."""
    from buffycoat.errors import InputError

    if not path.exists():
        raise InputError(f"{path}: no such weights file")
    try:
        with safe_open(str(path), "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            about = json.loads((stored.metadata() or {}).get("buffycoat", "{}"))
    except SafetensorError as problem:
        raise InputError(f"{path}: not a whole safetensors file ({problem})") from None
    return tensors, about
