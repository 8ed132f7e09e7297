from __future__ import annotations

from pathlib import Path

import pytest
import torch

from buffycoat.core.settings import Settings
from buffycoat.nets.training import Checkpoint, fingerprint, seed_torch


def test_a_checkpoint_gives_back_a_nested_state(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "history": [{"epoch": 1, "loss": 0.5}],
             "nothing": None, "flag": True, "heads": {}}  # fmt: skip
    Checkpoint(tmp_path / "c.safetensors", "abc").save(state)
    back = Checkpoint(tmp_path / "c.safetensors", "abc").load()
    assert back is not None
    assert back["history"] == state["history"] and back["nothing"] is None and back["flag"] is True
    assert all(torch.equal(back["model"][k], v) for k, v in model.state_dict().items())
    again = torch.optim.AdamW(torch.nn.Linear(3, 2).parameters())
    again.load_state_dict(back["optimiser"])
    assert torch.equal(again.state_dict()["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


def test_a_foreign_damaged_or_absent_checkpoint_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert Checkpoint(path, "abc").load() is None
    Checkpoint(path, "abc").save({"done": 3})
    assert Checkpoint(path, "other").load() is None
    path.write_bytes(path.read_bytes()[:10])
    assert Checkpoint(path, "abc").load() is None
    Checkpoint(path, "abc").remove()
    assert not path.exists()


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state/x"):
        Checkpoint(tmp_path / "c.safetensors", "abc").save({"x": object()})


class Some(Settings):
    width: int = 3


def test_the_fingerprint_sees_settings_inputs_code_and_seed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    base = fingerprint(Some(), {"a": tmp_path / "a"}, "code", seed=1)
    assert base == fingerprint(Some(), {"a": tmp_path / "a"}, "code", seed=1)
    (tmp_path / "b").write_text("2")
    others = [
        fingerprint(Some(width=4), {"a": tmp_path / "a"}, "code", seed=1),
        fingerprint(Some(), {"a": tmp_path / "b"}, "code", seed=1),
        fingerprint(Some(), {"a": tmp_path / "a"}, "edited", seed=1),
        fingerprint(Some(), {"a": tmp_path / "a"}, "code", seed=2),
    ]
    assert len({base, *others}) == 5


def test_seeding_by_name_repeats() -> None:
    seed_torch(1, "step", 3)
    first = torch.rand(3)
    seed_torch(1, "step", 4)
    assert not torch.equal(first, torch.rand(3))
    seed_torch(1, "step", 3)
    assert torch.equal(first, torch.rand(3))
