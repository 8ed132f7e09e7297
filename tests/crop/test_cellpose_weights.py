from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cellpose.__main__ import main as cellpose_main
from cellpose.models import CellposeModel

from buffycoat.core.errors import InputError
from buffycoat.core.files import sha256_of
from buffycoat.crop.cellpose_method import flows_of, normalised, start_masks
from buffycoat.crop.cellpose_weights import build_network, check_weights, load_network, read_state
from buffycoat.crop.settings import CropCells
from buffycoat.nets.weights import write_weights
from tests.crop.cellpose_stubs import drawn_labels, in_threads, small_encoder
from tests.crop.drawing import add_cell, field

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_encoder(monkeypatch)


@pytest.fixture()
def published(tmp_path: Path) -> Path:
    """A file as Cellpose writes it by its own save call, of a network that finds something in every image."""
    torch.manual_seed(3)
    network = build_network()
    with torch.no_grad():
        network.out.bias += 0.3
    network.save_model(tmp_path / "cpsam")
    return tmp_path / "cpsam"


def drawn() -> np.ndarray:
    image = field(200, red_cells=6)
    add_cell(image, 100, 110, 40)
    return image


def test_a_file_of_cellposes_own_save_gives_the_flows_of_its_own_load_and_eval(published: Path) -> None:
    itself = CellposeModel(pretrained_model=str(published), device=CPU, use_bfloat16=False)
    masks, (_, flows, logit), _ = itself.eval(drawn(), max_size_fraction=1.0)
    model = in_threads(load_network(published, CPU))
    ours = flows_of(model, normalised(drawn())[None])[0]
    np.testing.assert_array_equal(ours, np.concatenate([flows, logit[None]]))
    assert np.ptp(ours, axis=(1, 2)).min() > 0.1 and (logit > 0).any(), "the flows vary, and there is something to find"
    np.testing.assert_array_equal(start_masks(model, [drawn()], 240)[0].result(), masks)


def test_a_file_of_cellposes_own_fine_tuning_is_taken(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = drawn_labels(140, 150, seed=1, cells=2)
    image = np.where(labels[..., None] > 0, [120, 60, 150], [240, 235, 230]).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "a_masks.png"), labels.astype(np.uint16))
    command = (
        f"cellpose --train --dir {tmp_path} --mask_filter _masks --min_train_masks 1 --pretrained_model {published}"
        " --model_name_out mine --n_epochs 4 --learning_rate 0.01"
    )
    monkeypatch.setattr("sys.argv", command.split())
    cellpose_main()
    tuned = read_state(tmp_path / "models" / "mine")
    network = load_network(tmp_path / "models" / "mine", CPU)
    assert torch.equal(network.out.weight, tuned["out.weight"])
    assert not torch.equal(tuned["out.weight"], read_state(published)["out.weight"])


def test_our_own_file_gives_the_same_network(published: Path, tmp_path: Path) -> None:
    first = load_network(published, CPU)
    write_weights(first.state_dict(), {"method": "cellpose"}, tmp_path / "own.safetensors")
    second = load_network(tmp_path / "own.safetensors", CPU)
    images = normalised(drawn())[None]
    np.testing.assert_array_equal(flows_of(in_threads(first), images), flows_of(in_threads(second), images))
    assert not second.training and second.dtype == torch.float32


def test_half_precision_gives_nearly_the_same_flows(published: Path) -> None:
    network = load_network(published, CPU)
    images = normalised(drawn())[None]
    exact = flows_of(in_threads(network), images)
    network.dtype = torch.bfloat16
    rough = flows_of(in_threads(network), images)
    assert rough.dtype == np.float32 and not np.array_equal(exact, rough)
    assert np.abs(rough - exact).mean() < 0.02 * exact.std()


def test_prefixes_of_parallel_training_and_missing_diameters_are_no_fault(published: Path, tmp_path: Path) -> None:
    state = read_state(published)
    bare = {f"module.{name}": tensor for name, tensor in state.items() if not name.startswith("diam_")}
    torch.save(bare, tmp_path / "parallel")
    loaded = load_network(tmp_path / "parallel", CPU).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_files_in_half_precision_are_read(published: Path, tmp_path: Path) -> None:
    torch.save({name: tensor.bfloat16() for name, tensor in read_state(published).items()}, tmp_path / "half")
    network = load_network(tmp_path / "half", CPU)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_the_network_of_the_real_size_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with torch.device("meta"):
        network = build_network()
    state = network.state_dict()
    assert state["encoder.pos_embed"].shape == (1, 32, 32, 1024) and state["W2"].shape == (192, 3, 8, 8)
    assert len({name.split(".")[2] for name in state if name.startswith("encoder.blocks.")}) == 24
    assert 300e6 < sum(tensor.numel() for tensor in state.values()) < 310e6


def test_other_weights_are_refused_by_the_names_of_their_tensors(published: Path, tmp_path: Path) -> None:
    state = read_state(published)
    renamed = {name.replace("out.bias", "head.bias"): tensor for name, tensor in state.items()}
    renamed["out.weight"] = torch.zeros(2, 2)
    torch.save(renamed, tmp_path / "other")
    with pytest.raises(
        InputError, match=r"1 missing \(out\.bias\); 1 surplus \(head\.bias\); 1 of another shape \(out"
    ):
        load_network(tmp_path / "other", CPU)
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 3)).state_dict(), tmp_path / "linear")
    with pytest.raises(InputError, match=r"missing \(W2, encoder.*\.\.\.\); 2 surplus \(0\.bias, 0\.weight\)"):
        load_network(tmp_path / "linear", CPU)


class Trap:
    """Something whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


def test_damaged_files_and_files_with_code_are_refused(published: Path, tmp_path: Path) -> None:
    whole = published.read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("<html>Not found</html>")
    torch.save({"a": Trap()}, tmp_path / "code")
    torch.save(torch.zeros(3), tmp_path / "tensor")
    torch.save({"model": read_state(published)}, tmp_path / "nested")
    (tmp_path / "cut.safetensors").write_bytes((100).to_bytes(8, "little") + b'{"a": 1')
    for name in ("cut", "empty", "text", "code"):
        with pytest.raises(InputError, match=f"{name}: not a whole file of weights.*cpsam"):
            read_state(tmp_path / name)
    for name in ("tensor", "nested"):
        with pytest.raises(InputError, match=f"{name}: not a state dict of tensors"):
            read_state(tmp_path / name)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_state(tmp_path / "cut.safetensors")


def test_missing_or_foreign_weights_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"crop_cells\.weights: not set.*cpsam.*fetch_weights"):
        check_weights(CropCells(method="cellpose"))
    with pytest.raises(InputError, match="no such file.*cpsam"):
        check_weights(CropCells(method="cellpose", weights=str(tmp_path / "cpsam")))
    with pytest.raises(InputError, match="a folder, not a file"):
        check_weights(CropCells(method="cellpose", weights=str(tmp_path)))
    path = tmp_path / "cpsam"
    path.write_bytes(b"other")
    with caplog.at_level(logging.INFO, "buffycoat"):
        assert check_weights(CropCells(method="cellpose", weights=str(path))) == path
    assert f"{path}, SHA-256 {sha256_of(path)}" in caplog.text
