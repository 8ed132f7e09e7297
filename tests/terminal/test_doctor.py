from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from typer.testing import CliRunner

from buffycoat import cli
from buffycoat.core import environment
from buffycoat.core.errors import InputError
from buffycoat.terminal import doctor
from buffycoat.terminal.doctor import Finding


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)


def lines(report: Any) -> dict[str, str]:
    """State by what a line is about."""
    return {finding.what: finding.state for finding in report}


def asked_for(monkeypatch: pytest.MonkeyPatch, **extras: str) -> None:
    wanted: dict[str, list[Requirement]] = {"": [], **{extra: [] for extra in environment.EXTRAS}}
    wanted |= {extra.replace("core", ""): [Requirement(text)] for extra, text in extras.items()}
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)


def test_here_everything_works_but_the_weights_that_nobody_put_there() -> None:
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == 0, result.output
    rows = result.output.splitlines()
    assert all(row.split()[0] in ("ok", "warning", "missing", "optional") for row in rows[:-1])
    assert rows[-1] == "predict and run work here"
    assert not any(row.startswith("missing") for row in rows)
    (optional,) = [row for row in rows if row.startswith("optional")]
    assert optional == (
        "optional presets wbcbench and paper need weights (docs/weights.md); preset laptop does not: no weights/cpsam,"
        " weights/swin_tiny_patch4_window7_224.ms_in22k_ft_in1k.safetensors, weights/medsiglip-448"
    )


def test_a_line_says_the_state_first_and_what_mends_it_last() -> None:
    assert str(Finding("missing", "a thing", "buy it")) == "missing  a thing: buy it"
    assert str(Finding("ok", "a thing")) == "ok       a thing"
    assert Finding("missing", "a thing", vital=True).stops and not Finding("missing", "a thing").stops


def test_an_extra_that_is_absent_or_too_old_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, clip="no-such-package>=1", onnx="numpy<1", slurm="numpy>=2")
    report = {finding.what.split()[1].strip("(,"): finding for finding in doctor.packages()}
    assert str(report["clip"]) == 'missing  extra clip (no no-such-package): pip install "buffycoat[clip]"'
    assert "not <1" in str(report["onnx"]) and report["slurm"].state == "ok"
    assert not any(finding.stops for finding in report.values())


def test_a_core_that_is_not_whole_stops_it_and_so_does_half_a_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, core="no-such-package>=1", workflow="no-such-package>=1")
    report = list(doctor.packages())
    assert [finding.what for finding in report if finding.stops] == [
        "core (no no-such-package)",
        "extra workflow (no no-such-package)",
    ]
    assert doctor.conclusion(report).startswith("2 of what is missing stops buffycoat")
    monkeypatch.setattr(doctor, "has_snakemake", lambda: False)
    assert [finding.what for finding in doctor.packages() if finding.stops] == ["core (no no-such-package)"]


def test_without_snakemake_predict_alone_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_snakemake", lambda: False)
    expected = 'predict works here; a run needs the extra workflow: pip install "buffycoat[workflow]"'
    assert doctor.conclusion([]) == expected


def test_an_installed_copy_is_asked_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path / "site-packages")
    needs = ["numpy>=2", 'snakemake>=9; extra == "workflow"', 'buffycoat[workflow]; extra == "slurm"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needs)
    report = doctor.requirements()
    assert [line.name for line in report[""]] == ["numpy"]
    assert [line.name for line in report["workflow"]] == ["snakemake"]
    assert [line.name for line in report["slurm"]] == ["buffycoat"] and report["clip"] == []


def test_a_copy_that_was_not_installed_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path / "elsewhere")
    monkeypatch.setattr(doctor, "OWN", "no-such-package")
    assert [str(finding) for finding in doctor.packages()] == [
        "warning  packages: unknown, for this copy is not installed: pip install -e . in the clone"
    ]


def test_a_gpu_that_torch_does_not_see_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GPU: none, everything runs on the CPU" in lines(doctor.torch_and_gpus())
    monkeypatch.setattr(environment, "find_gpu", lambda: "/dev/nvidia*")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    report = list(doctor.torch_and_gpus())
    assert report[0].what.endswith("built for the CPU alone")
    assert report[1].state == "warning" and "install torch built for CUDA" in report[1].advice
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert list(doctor.torch_and_gpus())[1].what == "GPU: card 0, card 1"


def test_a_torch_that_cannot_be_imported_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    report = list(doctor.findings())
    (stop,) = [finding for finding in report if finding.stops]
    assert stop.what.startswith("torch (") and "of one build" in stop.advice
    assert not any("SHA-256" in finding.what for finding in report)


def test_weights_that_are_not_those_of_the_release_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffycoat.crop.segmenter.SHIPPED_SHA256", "0" * 64)
    report = list(doctor.embedded_weights())
    assert report[0].stops and "install buffycoat again" in report[0].what
    assert report[1] == Finding("ok", "weights in a package: EfficientNet-Lite0")


def test_weights_that_were_put_there_are_found(tmp_path: Path) -> None:
    for name in ("cpsam", "swin_tiny_patch4_window7_224.ms_in22k_ft_in1k.safetensors", "medsiglip-448"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    assert {finding.state for finding in doctor.preset_weights()} == {"ok"}


def test_a_preset_that_alone_lacks_a_file_has_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PRESETS", ("wbcbench",))
    for name in ("cpsam", "medsiglip-448"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    (finding,) = doctor.preset_weights()
    assert finding.what.startswith("preset wbcbench needs weights") and finding.advice.startswith(
        "no weights/swin_tiny"
    )


def test_a_machine_with_little_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.state for finding in doctor.machine()} == {"ok"}
    monkeypatch.setattr(environment, "memory_gib", lambda: 2)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**30})())
    report = {finding.what.split(":")[0]: finding for finding in doctor.machine()}
    assert report["memory"].state == report["disk"].state == "warning"


def test_a_folder_that_cannot_be_written_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    (stop,) = [finding for finding in doctor.machine() if finding.stops]
    assert "Permission denied" in stop.what and stop.advice == "run in another folder"


def test_a_copy_without_the_workflow_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise InputError("no workflow here")

    monkeypatch.setattr(doctor, "workflow_folder", refuse)
    assert "no workflow here" in [finding.what for finding in doctor.this_copy() if finding.stops]
