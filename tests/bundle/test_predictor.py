"""The composition of the stages, and how it is imported."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel
from typer.testing import CliRunner, Result

import buffycoat
from buffycoat.bundle import predictor as module
from buffycoat.bundle.inputs import listed
from buffycoat.bundle.predictor import Predictor
from buffycoat.cli import app
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json
from buffycoat.crop.settings import CropCells
from buffycoat.data.drawn import MODEL_NOTE
from buffycoat.data.methods import RECIPE_NAMES
from buffycoat.data.tables.review import NEW_IMAGES
from buffycoat.embed.settings import EmbedCells
from buffycoat.measure.settings import MeasureCells
from buffycoat.refine.settings import Rule
from buffycoat.restore.settings import RestoreCells, TrainGan
from tests.bundle.cases import CODES, cell_picture, small_bundle

STEPS = [
    "crop.crop_cells",
    "partition.measure_noise",
    "partition.flag_noisy",
    "restore.restore_cells",
    "classify.predict_fold",
    "classify.combine_folds",
    "embed.embed_cells",
    "embed.train_head",
    "measure.measure_cells",
    "refine.refine_labels",
    "review.find_suspects",
]
"""The steps that a new image passes through."""


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_new_images_applies_a_frozen_dataclass_to_a_frame(name: str) -> None:
    module = importlib.import_module(f"buffycoat.{name}")
    apply, step = module.apply, getattr(module, name.partition(".")[2])
    kinds = typing.get_type_hints(apply)
    frame, models = list(inspect.signature(apply).parameters)[:2]
    assert kinds[frame].__name__ == "DataFrame"
    assert dataclasses.is_dataclass(kinds[models]) and kinds[models].__dataclass_params__.frozen
    called = step.__code__.co_names + getattr(module, "judge", step).__code__.co_names
    assert "apply" in called, "the step calls the same function"


def test_the_package_gives_the_predictor_and_stays_light() -> None:
    code = "import sys, buffycoat; print(sorted({'torch', 'pandas', 'numpy', 'pyarrow', 'cv2'} & set(sys.modules)))"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"
    assert inspect.isclass(buffycoat.Predictor) and buffycoat.Predictor.__name__ == "Predictor"
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = buffycoat.Predicter


def values_of(kind: type[BaseModel], name: str) -> list[Any]:
    """Return the values that a setting can have."""
    return list(typing.get_args(kind.model_fields[name].annotation))


KINDS: list[dict[str, Any]] = [
    *({"restoration": name, "noise_level": 0.1} for name in values_of(RestoreCells, "method")),
    *({"restoration": "pix2pix", "noise_level": 0.1, "gan": {"norm": name}} for name in values_of(TrainGan, "norm")),
    {"restoration": "pix2pix", "noise_level": 0.1, "gan": {"upsampling": "transposed", "residual": False}},
    *({"crop": {"method": name}} for name in values_of(CropCells, "method") if name != "cellpose"),
    *({"recipe": name} for name in RECIPE_NAMES),
    *({"trained": {"background": name}, "embed": {"background": name}} for name in values_of(EmbedCells, "background")),
    *({"nucleus": name} for name in values_of(MeasureCells, "nucleus")),
    {"noise_over": "cell"},
    {"head": {"cross_fit": False, "standardise": False}},
    {"rules": (Rule(rescued="LY", hides_in=("MO", "mine"), beta=9, tau=0.1, gates=("spikiness",)),)},
]
"""Every choice that reaches a prediction, by the arguments of `small_bundle`."""


@pytest.mark.parametrize("choice", KINDS, ids=[str(choice)[:90] for choice in KINDS])
def test_a_bundle_made_with_any_method_labels_every_image(tmp_path: Path, choice: dict[str, Any]) -> None:
    bundle = small_bundle(tmp_path / "bundle", **choice)
    pictures = [cell_picture(tmp_path / f"{k}.png", k) for k in range(2)]
    Image.new("RGB", (40, 50), "white").save(tmp_path / "blank.png")
    with Predictor(bundle, exact=False) as predictor:
        table = predictor.predict([*pictures, tmp_path / "blank.png"])
    assert table["status"].eq("ok").all() and set(table["label"]) <= set(CODES)
    assert table["cell_found"].tolist() == [True, True, False]
    assert table["kinds"].str.split(",").map(lambda kinds: "no_cell" in kinds).tolist() == [False, False, True]
    if choice.get("noise_level"):
        assert table["noisy"].tolist() == [True, True, False]


def test_weights_that_are_not_here_are_asked_for_in_one_line(tmp_path: Path) -> None:
    outside = {"crop.crop_cells.weights": {"path": str(tmp_path / "cpsam"), "sha256": "0" * 64}}
    crop = {"method": "cellpose", "weights": str(tmp_path / "cpsam")}
    bundle = small_bundle(tmp_path / "bundle", crop=crop, outside=outside)
    with pytest.raises(InputError, match="cpsam: no such file or folder; the bundle needs it: give --weights crop"):
        Predictor(bundle)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("small") / "bundle", note=MODEL_NOTE)


@pytest.fixture(scope="module")
def ready(bundle: Path) -> Iterator[Predictor]:
    with Predictor(bundle, exact=False, chunk=2) as predictor:
        yield predictor


def test_images_of_any_shape_get_a_label(tmp_path: Path, ready: Predictor) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 400), (300, 2), (3, 3), (900, 30)):
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{height}x{width}.png")
    for mode, colour in (("L", 0), ("RGB", "black"), ("RGBA", (0, 0, 0, 0)), ("I;16", 9), ("1", 1)):
        Image.new(mode, (60, 60), colour).save(tmp_path / f"{mode.replace(';', '')}.png")  # type: ignore[arg-type]
    table = ready.predict(tmp_path)
    assert len(table) == 10 and table["status"].eq("ok").all(), table[["image_id", "status", "reason"]]
    assert table["label"].isin(CODES).all()


def test_without_a_sound_image_there_are_rows_all_the_same(tmp_path: Path, ready: Predictor) -> None:
    for k in range(3):
        (tmp_path / f"{k}.png").write_text("no image")
    table = ready.predict(tmp_path)
    assert table["status"].eq("not_an_image").all() and table["label"].isna().all() and (table["reason"] != "").all()
    assert not table["suspect"].any() and ready.verdict(table).verdict == "none"
    for name in ("o.csv", "o.parquet"):
        ready.predict_to(tmp_path / name, listed(tmp_path))
    assert NEW_IMAGES.read(tmp_path / "o.parquet")["status"].tolist() == ["not_an_image"] * 3


def test_a_chunk_without_a_sound_image_changes_nothing_of_the_others(tmp_path: Path, ready: Predictor) -> None:
    cells = [cell_picture(tmp_path / "a" / f"{k}.png", k) for k in range(2)]
    bad = [tmp_path / f"{k}.png" for k in range(2)]
    alone, between = ready.predict(cells), ready.predict([*bad, *cells, tmp_path / "2.png"])
    assert between["status"].tolist() == ["missing", "missing", "ok", "ok", "missing"]
    kept = between.iloc[2:4].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept.drop(columns="probabilities"), alone.drop(columns="probabilities"))
    assert np.stack(kept["probabilities"]).tolist() == np.stack(alone["probabilities"]).tolist()
    written = ready.predict_to(tmp_path / "o.parquet", listed([*bad, *cells, tmp_path / "2.png"]))
    pd.testing.assert_frame_equal(written.drop(columns="probabilities"), between.drop(columns="probabilities"))


def test_a_file_that_vanishes_after_its_check_takes_no_other_with_it(
    tmp_path: Path, ready: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [cell_picture(tmp_path / f"{k}.png", k) for k in range(2)]
    really = module.checked

    def check_and_lose(rows: pd.DataFrame, pool: ThreadPoolExecutor) -> pd.DataFrame:
        found = really(rows, pool)
        pictures[1].unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "checked", check_and_lose)
    assert ready.predict(pictures)["status"].tolist() == ["ok", "missing"]


def test_a_user_s_columns_come_back_whole(tmp_path: Path, ready: Predictor) -> None:
    for k in range(3):
        cell_picture(tmp_path / f"{k}.png", k)
    dates = pd.to_datetime(["2024-01-01", "2024-05-05", None])
    frame = pd.DataFrame(
        {"image": [str(tmp_path / f"{k}.png") for k in range(3)], "label": ["neutrophil", None, "x"], "p_LY": [1, 2, 3],
         "input_label": "kept", "group": ["a", "a", "b"], "age": [1.5, None, 3.0], "when": dates, "self": [{1}, 2, "z"]}
    )  # fmt: skip
    table = ready.predict(frame)
    assert table["input_input_label"].tolist() == ["kept"] * 3 or table["input_label"].tolist() == ["kept"] * 3
    assert {"group", "age", "when", "self", "input_p_LY"} <= set(table.columns) and table["label"].isin(CODES).all()
    assert table["group"].tolist() == ["a", "a", "b"] and table["input_p_LY"].tolist() == [1, 2, 3]
    frame.drop(columns=["self", "when"]).to_csv(tmp_path / "list.csv", index=False)
    for name in ("o.csv", "o.parquet"):
        ready.predict_to(tmp_path / name, listed([tmp_path / "list.csv"]))
    ours, theirs = NEW_IMAGES.read(tmp_path / "o.parquet"), pd.read_csv(tmp_path / "o.csv")
    assert ours["group"].tolist() == theirs["group"].tolist() == ["a", "a", "b"]
    assert theirs.columns.tolist().index("p_mine") < theirs.columns.tolist().index("group")
    ready.predict_to(tmp_path / "frame.parquet", listed(frame))
    assert NEW_IMAGES.read(tmp_path / "frame.parquet")["self"].tolist() == ["{1}", "2", "z"], (
        "as text, as Arrow has none"
    )


def test_cells_that_a_person_should_see_are_suspect_by_their_own_kind(tmp_path: Path) -> None:
    pictures = [cell_picture(tmp_path / "one.png", 1), cell_picture(tmp_path / "two.png", 2, cells=2)]
    with Predictor(small_bundle(tmp_path / "sure"), exact=False) as predictor:
        assert predictor.predict(pictures)["kinds"].tolist() == ["", "several_cells"]
    with Predictor(small_bundle(tmp_path / "unsure", sure_above=0.9), exact=False) as predictor:
        table = predictor.predict(pictures)
    assert table["kinds"].tolist() == ["probability", "several_cells,probability"]
    assert table["unlike"].tolist() == ["probability"] * 2
    assert table["suspect_reason"][1].startswith("2 white cells were found, and one of them was labelled; branch A is")


def command(bundle: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["predict", "--bundle", str(bundle), "--no-exact", *map(str, words)])


def test_the_command_says_the_verdict_first_and_ends_with_a_status_of_its_own(tmp_path: Path, bundle: Path) -> None:
    for k in range(12):
        cell_picture(tmp_path / "like" / f"{k}.png", k)
        cell_picture(tmp_path / "large" / f"{k}.png", k, side=240, radius=70)
    out = tmp_path / "labels.csv"
    shown = command(bundle, "--out", out, tmp_path / "like")
    lines = shown.stdout.splitlines()
    assert shown.exit_code == 0 and lines[0] == MODEL_NOTE, shown.output
    assert lines[1].startswith("no difference from the images that the model learned from")
    assert lines[2].startswith("12 images, 0 labels changed by refinement, 0 to look at")
    assert lines[3] in ("labels: MO monocyte 12", "labels: LY lymphocyte 12", "labels: mine 12")
    assert (
        lines[4] == "this model's macro-F1 on its 40 test images was 0.612 [0.500, 0.700]; chance is 0.333 (3 classes)"
    )
    told = read_json(tmp_path / "labels.verdict.json")
    assert told["verdict"] == "like" and told["model"] == "small" and told["note"] == MODEL_NOTE
    (tmp_path / "large" / "bad.png").write_text("no image")
    shown = command(bundle, "--out", out, tmp_path / "large")
    lines = shown.stdout.splitlines()
    assert shown.exit_code == 4, "before 3: a person must know this first"
    assert "UNLIKE" in lines[1] and lines[2].startswith("  scale: in 12 of 12 images"), shown.output
    assert "median diameter 140 px, in training 60 px" in lines[2]
    assert any(line.startswith("1 without a label, first") for line in lines)
    assert read_json(tmp_path / "labels.verdict.json")["verdict"] == "unlike"


def test_the_command_tells_few_images_and_missing_ones(tmp_path: Path, bundle: Path) -> None:
    picture = cell_picture(tmp_path / "a.png")
    shown = command(bundle, "--out", tmp_path / "o.parquet", picture, tmp_path / "none.png")
    assert shown.exit_code == 3 and "1 image with pixels: fewer than 10 give no verdict" in shown.output
    assert "1 without a label, first" in shown.output and "no such file" in shown.output
    shown = command(bundle, "--out", tmp_path / "x.csv", tmp_path / "none.png")
    assert isinstance(shown.exception, InputError) and not (tmp_path / "x.csv").exists()
    assert isinstance(command(bundle, "--out", tmp_path / "x.txt", picture).exception, InputError)


def test_python_is_told_what_the_command_tells(tmp_path: Path, bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in range(10):
        cell_picture(tmp_path / f"{k}.png", k, side=240, radius=70)
    with Predictor(bundle, exact=False) as predictor:
        table = predictor.predict(str(tmp_path))
        assert predictor.verdict(table).verdict == "unlike" and "UNLIKE" in caplog.text
        assert predictor.names == {"LY": "lymphocyte", "MO": "monocyte", "mine": "mine"}
        assert predictor.verdict(table.head(9)).verdict == "none"
    assert module.verdict_file(Path("a/labels.csv")) == Path("a/labels.verdict.json")
