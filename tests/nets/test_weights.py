from __future__ import annotations

from pathlib import Path

import pytest
import torch

from buffycoat.core.errors import InputError
from buffycoat.nets.weights import read_weights, write_weights


def test_weights_round_trip_with_their_header_and_bad_files_are_named(tmp_path: Path) -> None:
    write_weights({"w": torch.arange(4.0)}, {"classes": ["BA", "é"]}, tmp_path / "w.safetensors")
    tensors, about = read_weights(tmp_path / "w.safetensors")
    assert tensors["w"].tolist() == [0, 1, 2, 3] and about == {"classes": ["BA", "é"]}
    with pytest.raises(InputError, match=r"absent\.safetensors: no such weights"):
        read_weights(tmp_path / "absent.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"pickle?" * 10)
    with pytest.raises(InputError, match=r"w\.safetensors: not a whole safetensors"):
        read_weights(tmp_path / "w.safetensors")
