"""What is familiar: class models of the embeddings, and how far the training images lie; a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from buffycoat.errors import InputError
from buffycoat.files import whole_file
from buffycoat.refine.outliers import ClassModel, Values
from buffycoat.seals import OPEN_SEAL, close_seal, is_whole

PARTS = ("centre", "axes", "whitening", "means")


@dataclass(frozen=True)
class Familiar:
    """What new images are compared with."""

    models: dict[int, ClassModel]
    """By the fold that the model did not see."""
    energies: Values
    """Energy of each training image, out of fold, (n,)."""
    distances: Values
    """Distance of each training image to the nearest class, out of fold, (n,); NaN without one."""


def write_familiar(familiar: Familiar, path: Path) -> None:
    """Write models and values."""
    tensors = {"energies": familiar.energies, "distances": familiar.distances}
    for fold, model in familiar.models.items():
        tensors |= {f"fold_{fold}.{part}": np.ascontiguousarray(getattr(model, part)) for part in PARTS}
    with whole_file(path) as partial:
        partial.write_bytes(save(tensors, {"seal": OPEN_SEAL}))
        close_seal(partial)


def read_familiar(path: Path) -> Familiar:
    """Read what `write_familiar` wrote; raises InputError where the file is missing, damaged or of another form."""
    try:
        if not is_whole(path):
            raise ValueError("its bytes are not those that were written")
        tensors = load_file(path)
        energies, distances = tensors.pop("energies"), tensors.pop("distances")
        folds = sorted({int(name.partition(".")[0].removeprefix("fold_")) for name in tensors})
        models = {fold: ClassModel(*(tensors[f"fold_{fold}.{part}"] for part in PARTS)) for fold in folds}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, ValueError) as problem:
        raise InputError(f"{path}: not the models of familiar images ({problem}); delete it and run again") from None
    return Familiar(models, energies, distances)
