from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from buffycoat import config
from buffycoat.config import (
    Config,
    check_config,
    check_run,
    keep_warnings_for_trainings,
    missing_sources,
    settings_json,
    use_own_python,
)
from buffycoat.core.errors import InputError
from tests.conftest import REPOSITORY

PRESETS = sorted((REPOSITORY / "workflow" / "presets").glob("*.yaml"))
DEMO: dict[str, Any] = yaml.safe_load((REPOSITORY / "config.yaml").read_text())


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge as Snakemake merges configuration files: key by key."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def keys_of(tree: Any, depth: int = 3, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(tree, dict) or depth == 0:
        return {prefix}
    return {key for name, value in tree.items() for key in keys_of(value, depth - 1, (*prefix, name))}


def test_the_demo_is_valid() -> None:
    config = check_config(DEMO)
    assert config.index.make_index.root == "results/0_simulate/smears"
    assert missing_sources(config) == []


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_valid_on_top_of_the_demo_and_inherits_nothing_of_it(preset: Path) -> None:
    overlay = yaml.safe_load(preset.read_text())
    if preset.stem == "laptop":
        overlay["index"]["make_index"]["table"] = "cells.csv"
    config = check_config(merged(DEMO, overlay))
    assert config.classify.train_fold.backbone_options == {}
    inherited = {key for key in keys_of(DEMO) - keys_of(overlay) if key[0] not in ("seed", "simulate")}
    assert not inherited, f"{preset.name} silently takes these from the demo: {inherited}"


def test_the_paper_preset_holds_the_papers_constants() -> None:
    paper = next(path for path in PRESETS if path.stem == "paper")
    config = check_config(merged(DEMO, yaml.safe_load(paper.read_text())))
    fold, gan, head = config.classify.train_fold, config.restore.train_gan, config.embed.train_head
    assert (fold.batch, fold.epochs, fold.learning_rate, fold.weight_decay, fold.gamma) == (128, 20, 1e-4, 0.01, 2)
    assert (fold.imbalance, fold.rebalance, fold.focal_p, fold.choose) == ("both", "log", "weighted", "best")
    assert (gan.depth, gan.width, gan.norm, gan.upsampling, gan.lambda_l1) == (8, 64, "batch", "transposed", 100)
    assert (head.hidden, head.projection, head.temperature, head.contrastive_share) == ((1024, 512), 256, 0.07, 0.3)
    assert config.partition.flag_noisy.level == 20 and not config.restore.restore_cells.guard
    rules = {rule.rescued: rule for rule in config.refine.fit_rules.rules}
    assert (rules["PC"].beta, rules["PC"].tau, rules["PLY"].beta, rules["PLY"].tau) == (3750, 0.01, 150, 0.35)
    assert rules["PLY"].min_spikiness == 1.35 and rules["PLY"].max_host_probability == 0.8


def test_only_the_steps_own_settings_are_in_its_json() -> None:
    config = check_config(DEMO)
    changed = check_config(merged(DEMO, {"crop": {"crop_cells": {"size_px": 96}}}))
    differing = [
        f"{stage}.{rule}"
        for stage in Config.model_fields
        if stage != "seed"
        for rule in getattr(config, stage).__class__.model_fields
        if hasattr(getattr(getattr(config, stage), rule), "model_dump")
        and settings_json(config, f"{stage}.{rule}") != settings_json(changed, f"{stage}.{rule}")
    ]
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
        ({"index": {"make_index": {"source": "table"}}}, "needs `table`"),
        (
            {"restore": {"restore_cells": {"method": "magic"}}},
            "restore.restore_cells.method: input should be 'pix2pix'",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_config(merged(DEMO, overlay))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_needs_its_files(tmp_path: Path) -> None:
    overlay = {"crop": {"train_segmenter": {"masks": [str(tmp_path / "absent.csv")]}}}
    with pytest.raises(InputError, match=r"train_segmenter\.masks: no such file: .*absent\.csv: correct the path"):
        check_run(merged(DEMO, overlay))
    assert check_run(DEMO) == check_config(DEMO)


def test_some_settings_of_a_rule_may_be_changed() -> None:
    config = check_config(DEMO)
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
