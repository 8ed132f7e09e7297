"""Weights files: safetensors with a JSON header and a seal, read whole or refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from buffycoat.core.errors import InputError
from buffycoat.core.files import OPEN_SEAL, close_seal, is_whole, whole_file

SEAL = "seal"
"""Key of the seal in the JSON header."""


def write_weights(model_state: Mapping[str, torch.Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write weights as safetensors; `about` goes into the header as JSON under 'buffycoat'."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model_state.items()}
    # The seal stands inside the JSON: safetensors writes several texts in an order that changes from run to run.
    header = json.dumps({**about, SEAL: OPEN_SEAL}, sort_keys=True)
    with whole_file(path) as partial:
        # safetensors would write a file that none but its owner may read, whatever the umask says.
        partial.touch()
        mode = partial.stat().st_mode
        try:
            save_file(tensors, partial, {"buffycoat": header})
        except SafetensorError as problem:
            raise _as_os_error(problem) from None
        partial.chmod(mode)
        close_seal(partial)


def _as_os_error(problem: SafetensorError) -> Exception:
    """Return what the system said, where a write failed for want of space; otherwise the problem itself."""
    said = re.search(r"\(os error (\d+)\)", str(problem))
    return OSError(int(said[1]), os.strerror(int(said[1]))) if said else problem


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the JSON header of a weights file; raises InputError where it is missing or damaged.

    A file of another maker has no seal, and its tensors are taken as they are.
    """
    if not path.exists():
        raise InputError(f"{path}: no such weights file")
    try:
        if is_whole(path) is False:
            raise InputError(f"{path}: damaged: its bytes are not those that were written; delete it and run again")
        with safe_open(str(path), "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            about = json.loads((stored.metadata() or {}).get("buffycoat", "{}"))
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputError(f"{path}: not a whole safetensors file ({problem})") from None
    if not isinstance(about, dict):
        raise InputError(f"{path}: not a whole safetensors file (its header holds {type(about).__name__})")
    return tensors, {name: value for name, value in about.items() if name != SEAL}
