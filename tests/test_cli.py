"""The commands that a stranger types first: `buffycoat init` and `buffycoat run`."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from buffycoat import cli
from buffycoat.config import CHOSEN, check_run
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_yaml
from tests.conftest import REPOSITORY
from tests.index.cases import picture, wbcbench


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv(CHOSEN, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collect the commands of runs, which are not run."""
    seen: list[list[str]] = []

    def note(command: list[str]) -> int:
        seen.append(command)
        return 0

    monkeypatch.setattr(cli, "call", note)
    return seen


def invoke(*words: str) -> str:
    shown = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def folders(root: Path) -> None:
    names = [f"train/{label}/{k}.{suffix}" for label, suffix in (("SNE", "JPG"), ("LY", "png")) for k in range(5)]
    for k, name in enumerate([*names, "test/SNE/c.png"]):
        picture(root / f"{name}.png", k, 300).rename(root / name)


def test_init_says_what_it_understood_and_writes_what_runs(here: Path) -> None:
    folders(here / "my cells")
    shown = invoke("init", "my cells", "--out", "run.yaml")
    for line in ("my cells: one folder of images per class", "images: 11", "classes: 2 in training: LY 5, SNE 5",
                 "split: 10 training, 1 test (train 10, test 1)", "patients: not known", "sizes: 300x300 px (11)",
                 "window: 280 px around each cell, stored at 128 px",
                 "preset: laptop, because this machine shows no GPU",
                 "written: run.yaml; next: buffycoat run run.yaml"):  # fmt: skip
        assert line in shown, shown
    assert len(shown.splitlines()) <= 12
    written = read_yaml(here / "run.yaml")
    assert written == {"preset": "laptop", "data": "my cells"}
    assert check_run(written).data == "my cells"


def test_what_init_writes_elsewhere_runs_from_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(here / "cells")
    (here / "my runs").mkdir()
    assert "next: buffycoat run 'my runs/my.yaml'" in invoke("init", "cells", "--out", "my runs/my.yaml")
    monkeypatch.chdir(here / "my runs")
    assert check_run(read_yaml(Path("my.yaml"))).data == str(here / "cells")
    with pytest.raises(InputError, match="my runs: a folder; name a file with --out"):
        invoke("init", str(here / "cells"), "--out", str(here / "my runs"), "--force")


def test_what_init_writes_is_valid_with_every_comment_taken_off(here: Path) -> None:
    folders(here / "cells")
    invoke("init", "cells")
    lines = (here / "my.yaml").read_text().splitlines()
    first = lines.index("# index:")
    (here / "all.yaml").write_text("\n".join([*lines[:first], *(line.removeprefix("# ") for line in lines[first:])]))
    config = check_run(read_yaml(here / "all.yaml"))
    assert config.index.make_labels.label_aliases == {"neutrophil": "SNE"} and config.crop.crop_cells.window_px == 280


def test_init_understands_tables_and_wbcbench(here: Path) -> None:
    for k in range(10):
        picture(here / f"{k}.png", k)
    rows = [f"{k}.png,{'SNE' if k % 2 else 'LY'},train,p{k}" for k in range(10)]
    (here / "cells.csv").write_text("\n".join(["image,label,split,group", *rows]))
    assert "a table of images" in invoke("init", "cells.csv") and read_yaml(here / "my.yaml")["data"] == "cells.csv"
    words = ["init", str(wbcbench(here / "challenge")), "--preset", "wbcbench", "--out", "other.yaml"]
    shown = CliRunner().invoke(cli.app, words)
    assert "WBCBench's folder" in shown.stdout and "recovered from the order of the list" in shown.stdout
    assert "needed before it can run: crop.crop_cells.weights: no weights/cpsam" in shown.stdout
    assert "5 folds need at least 5 groups (patients), found 3" in str(shown.exception)
    assert not (here / "other.yaml").exists()


def rows_of_own_names(here: Path, count: int = 11) -> None:
    lines = ["filename;Cell Type;subset;patient_id"]
    for k in range(count):
        picture(here / "img" / f"{k}.png", k)
        lines.append(f"img\\{k}.png;{'Neutrophil' if k % 2 else 'Lymphocyte'};{'Test' if k == 0 else 'Train'};p{k}")
    (here / "cells.csv").write_text("\n".join(lines) + "\n")


def test_init_writes_the_columns_that_it_takes(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows_of_own_names(here)
    caplog.set_level(logging.INFO, "buffycoat")
    shown = invoke("init", "cells.csv", "--label-column", "cell type")
    assert "classes: 2 in training: LY 5, SNE 5" in shown and "split: 10 training, 1 test (Train 10, Test 1)" in shown
    assert "Lymphocyte = LY, Neutrophil = SNE" in shown and "patients: 10;" in shown
    assert "column 'filename' is taken for image; name another one by --image-column" in caplog.text
    written = read_yaml(here / "my.yaml")
    assert written["index"] == {
        "columns": {"label": "cell type", "image": "filename", "split": "subset", "group": "patient_id"}
    }
    assert check_run(written).index.columns.group == "patient_id"
    lines = (here / "my.yaml").read_text().splitlines()
    first = lines.index("index:")
    (here / "all.yaml").write_text("\n".join([*lines[:first], *(line.removeprefix("# ") for line in lines[first:])]))
    with_all = check_run(read_yaml(here / "all.yaml"))
    assert with_all.index.columns.image == "filename" and with_all.index.make_labels.label_aliases


def test_init_takes_a_pattern(here: Path) -> None:
    for k in range(10):
        picture(here / "cells" / f"p{k // 2}" / ("SNE" if k % 2 else "LY") / "a.png", k)
    assert "patients: 5;" in invoke("init", "cells", "--pattern", "<group>/<label>/<file>")
    assert check_run(read_yaml(here / "my.yaml")).index.columns.pattern == "<group>/<label>/<file>"


def test_init_does_not_recommend_what_cannot_run(here: Path) -> None:
    rows_of_own_names(here)
    text = (here / "cells.csv").read_text()
    for changed, message in (
        (text.replace("Lymphocyte", "neutrophils"), "all labelled training images are of one class"),
        (text.replace("Train", "Test"), "no training image has a label"),
        (text.replace("img\\", "image/"), "no image can be read: 11 missing; no such file: "),
        (text.replace(";Test;", ";Later;"), "found 'Later' \\(1\\), which mean neither training nor test"),
    ):
        (here / "cells.csv").write_text(changed)
        words = ["init", "cells.csv", "--label-column", "Cell Type", "--split-column", "subset"]
        shown = CliRunner().invoke(cli.app, words)
        assert isinstance(shown.exception, InputError)
        assert re.search(message, str(shown.exception)), shown.exception
        assert not (here / "my.yaml").exists()


def test_init_takes_a_preset_whose_weights_are_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(here / "cells")
    monkeypatch.setattr("buffycoat.config.find_gpu", lambda: "/dev/nvidia*")
    assert "preset: laptop, because the weights that wbcbench needs are not here" in invoke("init", "cells")
    for name in ("cpsam", "swin_tiny_patch4_window7_224.ms_in22k_ft_in1k.safetensors", "medsiglip-448/config.json"):
        (here / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "weights" / name).write_text("")
    shown = invoke("init", "cells", "--force")
    assert "preset: wbcbench, because this machine has a GPU" in shown and "window: 224 px" in shown


def test_init_overwrites_nothing_and_says_so_in_one_line(here: Path) -> None:
    folders(here / "cells")
    (here / "my.yaml").write_text("seed: 1\n")
    command = [sys.executable, "-m", "buffycoat.cli", "init", "cells"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 2 and shown.stdout == ""
    assert (
        shown.stderr
        == "buffycoat: error: my.yaml: exists; name another file with --out, or overwrite it with --force\n"
    )
    assert (here / "my.yaml").read_text() == "seed: 1\n"
    for data in ("absent", "my.yaml"):
        with pytest.raises(
            InputError, match="no such file or folder: .*absent|my.yaml: a file whose name ends in '.yaml'"
        ):
            cli.init(data, out=here / "other.yaml")
    assert not (here / "other.yaml").exists()


def test_run_starts_snakemake_here_with_the_file(here: Path, commands: list[list[str]]) -> None:
    (here / "my.yaml").write_text("preset: demo\n")
    invoke("run", "my.yaml")
    start = [
        sys.executable,
        "-m",
        "snakemake",
        "--logger",
        "buffycoat",
        "--snakefile",
        str(REPOSITORY / "workflow" / "Snakefile"),
        "--rerun-incomplete",
    ]
    assert commands == [[*start, "--cores", "all", "--configfile", "my.yaml"]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["my.yaml", "--", "-n", "pack_bundle"], ["--cores", "all", "-n", "pack_bundle"]),
        (["my.yaml", "-n"], ["--cores", "all", "-n"]),
        (["my.yaml", "--", "--cores", "2"], ["--cores", "2"]),
        (["my.yaml", "--", "-c4"], ["-c4"]),
        (["my.yaml", "--", "--jobs=3"], ["--jobs=3"]),
        (["my.yaml", "--", "--workflow-profile", "p"], ["--workflow-profile", "p"]),
        (["my.yaml", "--", "--config", "seed=2"], ["--cores", "all", "--config", "seed=2"]),
    ],
)
def test_options_are_handed_on(here: Path, commands: list[list[str]], words: list[str], expected: list[str]) -> None:
    (here / "my.yaml").write_text("preset: demo\n")
    invoke("run", *words)
    assert commands[0][8:] == [*expected, "--configfile", "my.yaml"]


def test_without_a_file_it_is_config_yaml_or_the_demo(
    here: Path, commands: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "buffycoat")
    invoke("run", "--", "-n")
    assert commands[0][8:] == ["--cores", "all", "-n", "--config", "preset=demo"]
    assert "no file is named: the demo" in caplog.text
    (here / "config.yaml").write_text("preset: demo\n")
    invoke("run")
    assert commands[1][8:] == ["--cores", "all", "--configfile", "config.yaml"]
    assert "config.yaml of this folder" in caplog.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--config", "data=cells.csv"], ["--config", "data=cells.csv"]),
        (["--config", "preset=paper", "seed=2"], ["--config", "preset=paper", "seed=2"]),
        (["--config", "seed=2", "-n"], ["--config", "preset=demo", "seed=2", "-n"]),
        (["--configfile", "a.yaml", "-n"], ["-n", "--configfile", "a.yaml"]),
        (["--configfile=a.yaml"], ["--configfile", "a.yaml"]),
        (["a.yaml", "-n", "--configfile", "b.yaml"], ["-n", "--configfile", "a.yaml", "b.yaml"]),
    ],
)
def test_what_is_named_anywhere_is_what_runs(
    here: Path, commands: list[list[str]], words: list[str], expected: list[str]
) -> None:
    for name in ("a", "b"):
        if any(f"{name}.yaml" in word for word in words):
            (here / f"{name}.yaml").write_text("preset: demo\n")
    invoke("run", "--", *words)
    assert commands[0][8:] == ["--cores", "all", *expected], "the later file goes over the earlier"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "a.yaml"], "a.yaml: name the run's file first: buffycoat run a.yaml"),
        (["--cores", "2", "a.yaml", "-n"], "name the run's file first"),
        (["cells"], "cells: a folder; write the run's file by: buffycoat init cells"),
        (["ablation"], "ablation: no such file; name the run's file first"),
    ],
)
def test_a_file_in_another_place_is_no_target_of_the_demo(
    here: Path, commands: list[list[str]], words: list[str], message: str
) -> None:
    (here / "a.yaml").write_text("preset: demo\n")
    (here / "cells").mkdir()
    with pytest.raises(InputError, match=re.escape(message)):
        invoke("run", "--", *words)
    assert commands == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"my\.yaml: no such file"),
        ("", r"my\.yaml: names nothing"),
        ("# data: x\n", r"my\.yaml: names nothing"),
        ("data: a\nseed: 1\ndata: b\n", r"my\.yaml, line 3: data is named twice \(first: line 1\); keep one"),
        ("crop: {crop_cells: {size_px: 1}}\ncrop: {}\n", r"line 2: crop is named twice"),
        ("a: [1\n", r"my\.yaml, line 2: not valid YAML"),
        ("text", "found str"),
    ],
)
def test_a_broken_file_is_named_before_anything_starts(
    here: Path, commands: list[list[str]], text: str | None, message: str
) -> None:
    if text is not None:
        (here / "my.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        invoke("run", "my.yaml")
    assert commands == []


def test_the_terminal_is_ours_unless_snakemakes_is_asked_for(commands: list[list[str]]) -> None:
    invoke("run")
    invoke("run", "--verbose")
    invoke("run", "--", "-n")
    ours, theirs, dry = commands
    assert ours[ours.index("--logger") + 1] == "buffycoat" and "--printshellcmds" not in ours
    assert "--logger" not in theirs and "--printshellcmds" in theirs and "--verbose" not in theirs
    assert "-n" in dry and "--logger" in dry


def test_the_demo_writes_over_no_other_run(here: Path, commands: list[list[str]]) -> None:
    (here / "other.yaml").write_text("a: [1\n")
    (here / "site.yml").write_text("nav: []\n")
    invoke("run")
    (here / "my run.yaml").write_text("data: cells\n")
    with pytest.raises(InputError, match="my run.yaml is here: buffycoat run 'my run.yaml'; the demo: "):
        invoke("run", "--", "-n")
    (here / "my run.yaml").unlink()
    (here / "results" / "1_index").mkdir(parents=True)
    with pytest.raises(InputError, match="results/ is of other data than the demo's"):
        invoke("run")
    (here / "results" / "0_simulate").mkdir()
    invoke("run")
    assert len(commands) == 2


def test_the_exit_status_is_snakemakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "call", lambda _: 7)
    assert CliRunner().invoke(cli.app, ["run"]).exit_code == 7


def test_a_command_ends_with_its_own_status_and_hears_of_sigterm() -> None:
    assert cli.call([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert cli.call([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]) == 137
    before = signal.getsignal(signal.SIGTERM)
    # A process in the background is started deaf to Ctrl-C.
    deaf = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopping = "import os, signal, sys; os.kill(os.getppid(), signal.SIGINT); sys.exit(1)"
    assert cli.call([sys.executable, "-c", stopping]) == 130
    signal.signal(signal.SIGINT, deaf)
    waiting = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    assert cli.call([sys.executable, "-c", waiting]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_version_is_told() -> None:
    assert invoke("--version").startswith("buffycoat ")


def test_a_dry_run_of_ones_own_images(here: Path) -> None:
    folders(here / "cells")
    invoke("init", "cells")
    command = [sys.executable, "-m", "buffycoat.cli", "run", "my.yaml", "--", "-n"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    assert "preset laptop" in lines[0] and lines[1] == "cells: one folder of images per class"
    assert "split: 10 training, 1 test (train 10, test 1)" in lines
    assert any(line.split()[:2] == ["train_fold", "5"] for line in lines), lines
    assert lines[-1] == "dry run: nothing was done; the command without -n runs it"
    assert len(lines) < 45 and "python -m" not in shown.stdout and "results/1_index/" not in shown.stdout
