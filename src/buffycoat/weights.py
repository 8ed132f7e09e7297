"""Weights files: safetensors with a JSON header, read whole or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from buffycoat.errors import InputError
from buffycoat.files import whole_file


def write_weights(model_state: Mapping[str, torch.Tensor], about: Mapping[str, Any], path: Path) -> None:
    """Write weights as safetensors; `about` goes into the header as JSON under 'buffycoat'."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model_state.items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, {"buffycoat": json.dumps(about, sort_keys=True)})


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the JSON header of a weights file; raises InputError where it is missing or damaged."""
    if not path.exists():
        raise InputError(f"{path}: no such weights file")
    try:
        with safe_open(str(path), "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            about = json.loads((stored.metadata() or {}).get("buffycoat", "{}"))
    except SafetensorError as problem:
        raise InputError(f"{path}: not a whole safetensors file ({problem})") from None
    return tensors, about
