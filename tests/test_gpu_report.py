"""Every path of the GPU report at reduced size, and what it tells where there is no GPU or no time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import gpu
from benchmarks.gpu_stages import TINY
from buffycoat.core.files import read_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crops that the classifier's stages learn from."""
    made = tmp_path_factory.mktemp("gpu_report")
    rates = gpu.STAGES["crop_embedded"].measure(TINY, made, 0.0)
    assert [rate["what"] for rate in rates] == ["decode", "decode, segment, frame"]
    return made


@pytest.mark.parametrize("name", [name for name in gpu.STAGES if name != "crop_embedded"])
def test_every_stage_gives_rates_and_what_the_projection_asks_for(name: str, folder: Path) -> None:
    rates = gpu.STAGES[name].measure(TINY, folder, 0.0)
    assert all(rate["per_s"] > 0 for rate in rates)
    assert all(rate["flop_per_unit"] for rate in rates if rate["unit"] not in ("FLOP", "bytes"))
    assert {work.what for work in gpu.WORK if work.stage == name} <= {rate["what"] for rate in rates}


def test_the_projection_adds_up_and_names_what_is_missing() -> None:
    rates: dict[str, list[dict[str, object]]] = {}
    for work in gpu.WORK:
        rates.setdefault(work.stage, []).append({"what": work.what, "per_s": work.units / 10, "flop_per_unit": 10.0})
    stages = {name: {"rates": told} for name, told in rates.items()}
    told = gpu.projection(stages)
    counted = [piece for piece in told["pieces"] if piece["counted"]]
    assert told["missing"] == [] and told["sum_s"] == pytest.approx(sum(piece["s"] for piece in counted))
    del stages["embed"]
    told = gpu.projection(stages)
    assert told["sum_s"] is None and told["missing"] == ["all images, MedSigLIP at 448 px, one view"]


def test_the_share_of_the_peak_is_of_the_measured_one() -> None:
    stages = {
        "probe": {"rates": [{"what": "bf16 matrix product", "unit": "FLOP", "per_s": 1e12, "flop_per_unit": None}]},
        "embed": {"rates": [{"what": "embedding", "unit": "images", "per_s": 25.0, "flop_per_unit": 10**10}]},
    }
    assert gpu.with_shares(stages)["embed"]["rates"][0]["share_of_measured_peak"] == 0.25


def test_a_stage_that_takes_too_long_is_ended_and_told(tmp_path: Path) -> None:
    assert gpu.run_apart("probe", TINY, tmp_path, 0.01) == {"failed": "not done within 0 s"}
    assert "time for all stages" in gpu.run_apart("probe", TINY, tmp_path, -1.0)["failed"]


def test_one_stage_in_a_process_of_its_own_is_written(tmp_path: Path) -> None:
    result = tmp_path / "gpu.json"
    shown = CliRunner().invoke(gpu.app(), ["--tiny", "--only", "probe", "--result", str(result)])
    assert shown.exit_code == 0, shown.output
    told = read_json(result)
    assert told["status"] == "incomplete" and told["stages"]["probe"]["memory_mib"] > 0
    assert told["wbcbench"]["sum_s"] is None


def test_without_a_gpu_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shown = CliRunner().invoke(gpu.app(), ["--result", str(tmp_path / "gpu.json")])
    assert shown.exit_code == 1 and "no GPU" in shown.output
    assert not (tmp_path / "gpu.json").exists()


def test_the_committed_result_says_whether_it_was_run(repository: Path) -> None:
    told = read_json(repository / "benchmarks" / "gpu.json")
    assert told["command"] == gpu.COMMAND
    assert told["status"] in ("run", "incomplete") or told["why"]
