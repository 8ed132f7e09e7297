"""The weights of Cellpose-SAM (doi 10.1101/2025.04.28.651001): a local file, checked, read without unpickling.

Cellpose's own loader is not used: where a path does not exist it downloads another model, with the checking of TLS
certificates switched off and no hash verified, and it loads tensors of a foreign file where their names happen to fit.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.crop.settings import CropCells
from buffycoat.nets.weights import read_weights

log = logging.getLogger("buffycoat")

ADVICE = (
    "get the file 'cpsam' of Cellpose-SAM (huggingface.co/mouseland/cellpose-sam; its training data is CC BY-NC), for"
    " instance by `python -m buffycoat.crop.fetch_weights`, and name it in crop.crop_cells.weights; or set another"
    " crop.crop_cells.method"
)
UNUSED = {"diam_mean", "diam_labels"}
"""Diameters of the training's cells, kept in the file for the record; inference does not read them."""


def check_weights(settings: CropCells) -> Path:
    """Return the weights file; raises InputError where it is not named, absent, or a folder."""
    if settings.weights is None:
        raise InputError(f"crop.crop_cells.weights: not set, but the method is cellpose; {ADVICE}")
    path = Path(settings.weights)
    if path.is_dir():
        raise InputError(f"crop.crop_cells.weights: {path}: a folder, not a file; {ADVICE}")
    if not path.is_file():
        raise InputError(f"crop.crop_cells.weights: {path}: no such file; {ADVICE}")
    log.info("Cellpose weights: %s, SHA-256 %s", path, sha256_of(path))
    return path


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file: a PyTorch state dict as Cellpose publishes, or safetensors.

    Nothing but tensors is read from either. Raises InputError where the file is damaged or holds anything else.
    """
    with path.open("rb") as stream:
        head = stream.read(9)
    # Eight bytes of length, then a JSON object: safetensors.
    if head[8:] == b"{":
        return read_weights(path)[0]
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as problem:
        cause = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise InputError(f"{path}: not a whole file of weights ({cause}); {ADVICE}") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise InputError(f"{path}: not a state dict of tensors; {ADVICE}")
    # Networks trained on several GPUs are saved with this prefix.
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def build_network() -> Any:
    """Return Cellpose-SAM's network, float32 on the CPU, with untrained weights."""
    # At import it warns that another, optional network is not installed; later it logs a progress bar per batch.
    logging.getLogger("cellpose.vit").setLevel(logging.ERROR)
    logging.getLogger("cellpose.core").setLevel(logging.WARNING)
    from cellpose.vit import CPSAM

    return CPSAM(dtype=torch.float32)


def load_network(path: Path, device: torch.device) -> Any:
    """Return Cellpose-SAM's network with the weights of a file, on `device`, ready for inference.

    It computes in bfloat16 where the device is a GPU that has it, otherwise in float32. Raises InputError
    where the file's tensors are not exactly those of the network.
    """
    state = read_state(path)
    network = build_network()
    _require_fit(state, network.state_dict(), path)
    network.load_state_dict({**{name: network.state_dict()[name] for name in UNUSED}, **state}, strict=True)
    network.to(device)
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        network.dtype = torch.bfloat16
    return network.eval()


def _require_fit(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], path: Path) -> None:
    faults = []
    for what, names in (
        ("missing", wanted.keys() - state.keys() - UNUSED),
        ("surplus", state.keys() - wanted.keys()),
        ("of another shape", {name for name in state.keys() & wanted if state[name].shape != wanted[name].shape}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
            faults.append(f"{len(names)} {what} ({shown})")
    if faults:
        raise InputError(f"{path}: not the weights of Cellpose-SAM; tensors: {'; '.join(faults)}; {ADVICE}")
