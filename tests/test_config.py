from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buffycoat import config
from buffycoat.config import (
    CHOSEN,
    PRESETS,
    SMEARS,
    Config,
    check_config,
    check_run,
    find_gpu,
    hand_on_runtime,
    keep_warnings_for_trainings,
    missing_sources,
    missing_weights,
    read_layers,
    settings_json,
    settle_data,
    step_settings,
    use_own_python,
)
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_yaml
from buffycoat.core.settings import RUNTIME_VARIABLE, Runtime
from buffycoat.embed import train_head
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "workflow" / "presets"
FULL_SIZE = ("classify.train_fold.weights", "crop.crop_cells.weights", "embed.embed_cells.weights")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CHOSEN, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)


def table(folder: Path) -> str:
    (folder / "cells.csv").write_text("image,label,group\na.png,SNE,p1\n")
    return "cells.csv"


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        key: leaf
        for name, value in tree.items()
        for key, leaf in leaves(value, f"{prefix}.{name}"[not prefix :]).items()
    }


def test_every_name_of_a_preset_is_a_file() -> None:
    assert sorted(PRESETS) == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_valid_alone_and_repeats_no_default(preset: str) -> None:
    named = read_yaml(FOLDER / f"{preset}.yaml")
    config = check_config(named)
    assert config.model_dump(exclude={"preset"}) == read_layers(
        {"preset": preset, **({} if config.data else {"data": "cells.csv"})}
    )[0].model_copy(update={"data": config.data}).model_dump(exclude={"preset"})
    defaults = leaves(Config().model_dump(mode="json"))
    repeated = {
        key
        for key, value in leaves(config.model_dump(mode="json")).items()
        if key in leaves(named) and defaults.get(key) == value
    }
    assert not repeated, f"{preset} repeats the defaults of {repeated}"
    assert None not in leaves(named).values(), "nothing below a preset needs undoing"


def test_the_defaults_are_those_of_full_size() -> None:
    named = leaves(read_yaml(FOLDER / "wbcbench.yaml"))
    assert set(named) == {"data", "index.make_labels.groups", *FULL_SIZE}


def test_the_demo_needs_nothing() -> None:
    config = check_run({"preset": "demo"})
    assert config.data == SMEARS and config.index.make_labels.test_labels == f"{SMEARS}/test_labels.csv"
    assert missing_sources(config) == [] and missing_weights(config) == []


@pytest.mark.parametrize("preset", [None, "laptop", "mine.yaml"])
def test_data_that_are_named_are_what_runs(tmp_path: Path, preset: str | None) -> None:
    (tmp_path / "mine.yaml").write_text("data: other.csv\nclassify: {recipe: ldam}\n")
    config = check_run({"data": table(tmp_path)} | ({"preset": preset} if preset else {}))
    assert config.data == "cells.csv" and config.preset == (preset or "laptop")
    assert config.classify.recipe == ("ldam" if preset == "mine.yaml" else "oversampling")


def test_data_and_the_demo_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"draws its own cells and would not use data: cells\.csv; remove `preset`"):
        check_run({"preset": "demo", "data": table(tmp_path)})


def test_no_preset_is_chosen_by_the_machine_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "buffycoat")
    raw = {"data": table(tmp_path)}
    assert check_run(raw).preset == "laptop"
    assert "preset laptop, because none is named and this machine shows no GPU" in caplog.text
    monkeypatch.setattr(config, "find_gpu", lambda: "/dev/nvidia*")
    with pytest.raises(InputError, match=r"crop\.crop_cells\.weights: no weights/cpsam; .*set `preset: laptop`"):
        check_run(raw)
    assert "preset wbcbench, because none is named and this machine has a GPU" in caplog.text
    # A job of a run on a cluster is on another machine than the run.
    monkeypatch.setenv(CHOSEN, "laptop")
    assert check_run(raw).preset == "laptop"


def test_a_preset_takes_only_the_weights_that_it_uses(tmp_path: Path) -> None:
    without = {"crop": {"crop_cells": {"method": "embedded"}}, "classify": {"train_fold": {"weights": None}}}
    raw = {"preset": "wbcbench", "data": table(tmp_path), **without}
    assert missing_weights(read_layers(raw)[0]) == ["embed.embed_cells.weights: no weights/medsiglip-448"]
    (tmp_path / "weights" / "medsiglip-448").mkdir(parents=True)
    assert check_run(raw).data == "cells.csv"


def test_recovered_patients_are_for_wbcbench_unless_asked_for(tmp_path: Path) -> None:
    raw = {"preset": str(FOLDER / "wbcbench.yaml"), "data": table(tmp_path)}
    layers = read_layers(raw)[0]
    assert layers.index.make_labels.groups == "pseudo_patients"
    assert settle_data(layers, raw, []).index.make_labels.groups == "given"
    asked = {**raw, "index": {"make_labels": {"groups": "pseudo_patients"}}}
    assert settle_data(layers, asked, []).index.make_labels.groups == "pseudo_patients"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"make_labels": {"test_labels": "a.csv"}}, r"test_labels is for WBCBench's folder, not for cells\.csv"),
        ({"make_index": {"root": "absent"}}, r"index\.make_index\.root: no such file: /.*absent"),
    ],
)
def test_a_file_that_would_not_be_used_is_an_error(tmp_path: Path, named: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_run({"preset": "laptop", "data": table(tmp_path), "index": named})


def test_paths_are_found_beside_the_file_that_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "buffycoat")
    beside = tmp_path / "set"
    beside.mkdir()
    (beside / "mine.yaml").write_text("seed: 5\n")
    raw = {"preset": "mine.yaml", "data": table(beside)}
    found = check_run(raw, [beside / "my.yaml"])
    assert (found.data, found.seed) == ("set/cells.csv", 5)
    assert "cells.csv: found beside the file that names it" in caplog.text
    monkeypatch.chdir(beside)
    assert check_run(raw, [beside / "my.yaml"]).data == "cells.csv", "the working directory comes first"


@pytest.mark.parametrize(
    "keys",
    ["index.make_index.root", "crop.train_segmenter.masks", "crop.crop_cells.weights", "classify.train_fold.weights",
     "embed.embed_cells.weights"],
)  # fmt: skip
def test_every_path_is_looked_for_here_and_beside_the_file_and_at_home(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    caplog.set_level("INFO", "buffycoat")
    (tmp_path / "set" / "thing").mkdir(parents=True)
    stage, rule, name = keys.split(".")

    def found(value: str) -> str:
        held = [value] if name == "masks" else value
        raw = {"preset": "laptop", "data": table(tmp_path), stage: {rule: {name: held}}}
        section = getattr(getattr(check_run(raw, [tmp_path / "set" / "my.yaml"]), stage), rule)
        here = getattr(section, name)
        return here[0] if name == "masks" else here

    assert found("thing") == "set/thing" and "thing: found beside the file that names it" in caplog.text
    (tmp_path / "thing").mkdir()
    assert found("thing") == "thing" and "taken from the working directory" in caplog.text
    monkeypatch.setenv("HOME", str(tmp_path / "set"))
    assert found("~/thing") == str(tmp_path / "set" / "thing")
    with pytest.raises(InputError, match=rf"{keys}: no (such file: )?.*absent"):
        found("absent")


def test_data_at_home_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    table(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert check_run({"preset": "laptop", "data": "~/cells.csv"}).data == str(tmp_path / "home" / "cells.csv")
    with pytest.raises(InputError, match=rf"no such file or folder: {tmp_path / 'home'}/none\.csv"):
        check_run({"preset": "laptop", "data": "~/none.csv"})


def test_settings_for_other_kinds_of_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set" / "SNE").mkdir(parents=True)
    for name in ("SNE", "LY"):
        (tmp_path / "set" / name).mkdir(exist_ok=True)
        (tmp_path / "set" / name / "a.png").write_bytes(b"")
    for data, named, message in (
        (table(tmp_path), {"columns": {"pattern": "<label>"}}, "pattern is for class folders"),
        ("set", {"make_index": {"test_values": ["x"]}}, "test_values is for lists"),
        ("set", {"make_labels": {"group_pattern": "^a"}}, "group_pattern is for boxes on fields"),
    ):
        with pytest.raises(InputError, match=message):
            check_run({"preset": "laptop", "data": data, "index": named})


def test_the_digest_of_lists_is_handed_on_to_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = check_run({"preset": "laptop", "data": table(tmp_path)})
    before = config.listed_rows(found)
    monkeypatch.setattr("buffycoat.index.lists.rows_digest", lambda *_: "read again")
    assert config.listed_rows(found) == before
    (tmp_path / "cells.csv").write_text("image,label,group\nanother.png,SNE,p1\n")
    assert config.listed_rows(found) == "read again"


def test_numbers_are_texts_where_classes_are_named_and_truth_values_are_explained() -> None:
    named = {"label_aliases": {1: "SNE", "2": 3}, "classes": ["SNE", 3, 1.5]}
    labels = check_config({"index": {"make_labels": named, "make_index": {"test_values": [2]}}}).index
    assert labels.make_labels.label_aliases == {"1": "SNE", "2": "3"} and labels.make_labels.classes == (
        "SNE",
        "3",
        "1.5",
    )
    assert labels.make_index.test_values == ("2",)
    assert check_config({"embed": {"train_head": {"multipliers": {3: 2}}}}).embed.train_head.multipliers == {"3": 2.0}
    for wrong in ({"classes": [False, "LY"]}, {"label_aliases": {False: "SNE"}}, {"label_aliases": {"x": False}}):
        with pytest.raises(InputError, match="false: YAML reads yes, no, .* as truth values; put the word in quotes"):
            check_config({"index": {"make_labels": wrong}})
    with pytest.raises(InputError, match="stands there twice"):
        check_config({"index": {"make_labels": {"label_aliases": {1: "SNE", "1": "LY"}}}})


def test_lists_are_replaced_and_dictionaries_merged() -> None:
    named = {"embed": {"train_head": {"hidden": [8], "multipliers": {"PC": 2.0}}}}
    head = read_layers({"preset": "paper", **named})[0].embed.train_head
    assert head.hidden == (8,) and head.multipliers["PC"] == 2.0 and head.multipliers["PLY"] == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop:\n  crop_cells: {window_px: [2\n", r"mine\.yaml, line 3: not valid YAML"),
        ("seed: 1\n\tcrop: 2\n", r"mine\.yaml, line 2: not valid YAML"),
        ("just text\n", r"mine\.yaml: expected lines `key: value`, found str"),
        ("preset: laptop\n", r"mine\.yaml: a preset cannot name another preset"),
        ("seed: 1\ncrop:\n  crop_cells:\n    windw_px: 3\n", r"windw_px: unknown setting.*\(mine\.yaml, line 4\)"),
    ],
)
def test_a_broken_preset_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        check_run({"preset": "mine.yaml", "data": table(tmp_path)})
    assert "\n" not in str(caught.value)


def test_a_preset_is_named_and_not_laid_over() -> None:
    with pytest.raises(InputError, match="is a preset: write `preset: laptop` into your own file"):
        check_run({"data": "cells.csv"}, [FOLDER / "laptop.yaml"])
    for name, message in [
        ("labtop", "did you mean 'laptop'"),
        (["demo"], "is none of demo"),
        ("no.yaml", "no such file"),
    ]:
        with pytest.raises(InputError, match=message):
            check_run({"preset": name, "data": "cells.csv"})


def test_the_template_names_the_demo_and_nothing_else() -> None:
    assert read_yaml(REPOSITORY / "config.yaml") == {"preset": "demo"}


def test_a_gpu_is_seen_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")]))
    assert find_gpu() is None, "CUDA_VISIBLE_DEVICES hides it"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert find_gpu() == "/dev/nvidia*"


def test_the_paper_preset_holds_the_papers_constants() -> None:
    config = read_layers({"preset": "paper"})[0]
    fold, gan, head = config.classify.train_fold, config.restore.train_gan, config.embed.train_head
    assert (fold.batch, fold.epochs, fold.learning_rate, fold.augmentation) == (128, 20, 1e-4, "paper")
    assert (fold.imbalance, fold.rebalance, fold.focal_p, fold.choose) == ("both", "log", "weighted", "best")
    assert (gan.depth, gan.widths, gan.norm, gan.upsampling, gan.lambda_l1) == (8, (64, 64), "batch", "transposed", 100)
    assert gan.schedule == (0.0, 0.5)
    assert head.hidden == (1024, 512)
    assert (train_head.PROJECTION, train_head.TEMPERATURE, train_head.CONTRASTIVE_SHARE) == (256, 0.07, 0.3)
    assert config.partition.flag_noisy.level == 20 and not config.restore.restore_cells.guard
    rules = {rule.rescued: rule for rule in config.refine.fit_rules.rules}
    assert (rules["PC"].beta, rules["PC"].tau, rules["PLY"].beta, rules["PLY"].tau) == (3750, 0.01, 150, 0.35)
    assert rules["PLY"].min_spikiness == 1.35 and rules["PLY"].max_host_probability == 0.8


def test_only_the_steps_own_settings_are_in_its_json() -> None:
    config = check_config({})
    changed = check_config({"crop": {"crop_cells": {"size_px": 96}}})
    differing = [name for name in step_settings() if settings_json(config, name) != settings_json(changed, name)]
    assert differing == ["crop.crop_cells"]


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"crops": {}}, "crops: unknown setting; did you mean 'crop'"),
        (
            {"crop": {"crop_cells": {"windw_px": 3}}},
            "crop.crop_cells.windw_px: unknown setting; did you mean 'window_px'",
        ),
        ({"crop": {"crop_cells": {"window_px": "wide"}}}, "crop.crop_cells.window_px: input should be a valid integer"),
        ({"crop": {"crop_cells": {"window_px": 3}}}, "greater than or equal to 16, found 3"),
        ({"index": {"make_labels": {"classes": ["A", "A"]}}}, "a code is named twice"),
        ({"data": "a{b}"}, "data: string should match pattern"),
        (
            {"restore": {"restore_cells": {"method": "magic"}}},
            "restore.restore_cells.method: input should be 'pix2pix'",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_config(overlay)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_needs_its_files(tmp_path: Path) -> None:
    overlay = {"crop": {"train_segmenter": {"masks": [str(tmp_path / "absent.csv")]}}}
    with pytest.raises(InputError, match=r"train_segmenter\.masks: no such file: .*absent\.csv: correct the path"):
        check_run({"preset": "demo", **overlay})


def test_some_settings_of_a_rule_may_be_changed() -> None:
    config = check_config({})
    told = json.loads(settings_json(config, "restore.restore_cells", method="median"))
    assert told == {**json.loads(settings_json(config, "restore.restore_cells")), "method": "median"}


def test_rules_run_this_python_and_this_package_wherever_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    use_own_python()
    use_own_python()
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(REPOSITORY / "src"), "/mine"]


def test_an_installed_copy_sends_no_other_python_to_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setattr(config, "ROOT", Path("/usr/lib/python3.12/site-packages"))
    use_own_python()
    assert os.environ["PYTHONPATH"] == "/mine"


def test_the_shells_of_a_job_outlive_the_warning_that_is_for_its_training() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        keep_warnings_for_trainings()
        signal.raise_signal(signal.SIGUSR1)
        shell = "kill -USR1 $$; bash -c 'kill -USR1 $$; echo alive' | tee /dev/null"
        shown = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert shown.stdout == "alive\n"


def test_a_run_hands_the_settings_of_the_machine_to_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME_VARIABLE, "")
    hand_on_runtime(read_layers({"preset": "demo", "runtime": {"micro_batch": 4}})[0])
    assert Runtime.model_validate_json(os.environ[RUNTIME_VARIABLE]) == Runtime(micro_batch=4)


def test_faults_of_data_and_preset_have_their_line_and_those_of_the_command_line_none(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("seed: 3\npreset: laptop\ndata: absent.csv\n")
    with pytest.raises(InputError, match=r"absent\.csv.*my\.yaml, line 3\)"):
        check_run({"preset": "laptop", "data": "absent.csv"}, [file])
    with pytest.raises(InputError, match=r"preset: no such file: own\.yaml .*my\.yaml, line 2\)"):
        check_run({"preset": "own.yaml", "data": "absent.csv"}, [file])
    with pytest.raises(InputError, match=r"seed: input should be a valid integer[^(]*$"):
        check_run({"preset": "laptop", "data": "absent.csv", "seed": "x"}, [file])
