"""Pieces that trainings share: seed, fingerprint, resumable checkpoint. Not a trainer."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from buffycoat.core.errors import InputError, Interrupted
from buffycoat.core.files import sha256_of
from buffycoat.core.settings import Settings
from buffycoat.data.random import stream_seed
from buffycoat.nets.weights import read_weights, write_weights

log = logging.getLogger("buffycoat")
REPORTS = 10
"""How often a training that is counted in steps judges itself and stores its state; ours, as many rows are readable."""


def report_steps(steps: int) -> int:
    """Return after how many steps such a training reports each time."""
    return max(1, steps // REPORTS)


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
        tensors[prefix] = state
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
        structure = _flatten(state, "state", tensors)
        write_weights(tensors, {"structure": structure, "fingerprint": self.fingerprint}, self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the stored state; None where there is none, it belongs to other inputs, or it is damaged."""
        if not self.path.exists():
            return None
        try:
            tensors, about = read_weights(self.path)
        except InputError as problem:
            log.warning("%s: starting anew", problem)
            return None
        if about.get("fingerprint") != self.fingerprint:
            log.info("%s belongs to other settings, inputs or code: starting anew", self.path)
            return None
        state: dict[str, Any] = _unflatten(about["structure"], tensors)
        return state

    def remove(self) -> None:
        """Delete the file: the training has ended and its outputs are written."""
        self.path.unlink(missing_ok=True)


class Safekeeping:
    """Stores a training's state every so often, and, when the system asks the process to end, stores it and ends.

    Heeded are SIGTERM, SIGUSR1 (Slurm's warning before a time limit) and the first SIGINT; the training goes on to the
    end of its step. Use as a context manager, and call `after_step` after each step.
    """

    # Windows has no SIGUSR1.
    SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))

    def __init__(self, save: Callable[[], None], every_s: float) -> None:
        """Keep what stores the state, and the seconds between two times it does."""
        self.save, self.every_s = save, every_s
        self.asked = 0
        self.last = time.monotonic()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Safekeeping:
        """Take over the signals."""
        self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = number
        # A second Ctrl-C means it.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def after_step(self) -> None:
        """Store the state where it is time; raises Interrupted, after storing it, where the process is to end."""
        if not self.asked and time.monotonic() - self.last < self.every_s:
            return
        self.save()
        self.last = time.monotonic()
        if self.asked:
            raise Interrupted(self.asked)
