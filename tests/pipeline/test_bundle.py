"""A bundle of the finished run: its labels are the workflow's, whatever is given, however often it is interrupted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from buffycoat import Predictor
from buffycoat.bundle.inputs import listed
from buffycoat.cli import app
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, sha256_of, write_json
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import PREDICTIONS
from buffycoat.data.tables.review import NEW_IMAGES, SUSPECTS
from tests.pipeline.workflow_run import Project

Row = dict[str, Any]


@pytest.fixture(scope="module")
def bundle(finished: Project) -> Path:
    return finished.folder / "results" / "bundle" / "bundle"


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Iterator[Predictor]:
    with Predictor(bundle, chunk=20) as ready:
        yield ready


@pytest.fixture(scope="module")
def tested(finished: Project) -> pd.DataFrame:
    table = PREDICTIONS.read(finished.folder / "results" / "report" / "predictions.parquet")
    rows = table[table["role"] == "test"].sample(frac=1, random_state=3).head(45)
    return rows.assign(path=[str(finished.folder / path) for path in rows["path"]])


@pytest.fixture(scope="module")
def given(tested: pd.DataFrame, predictor: Predictor) -> pd.DataFrame:
    found = predictor.predict(tested["path"])
    assert found["image_id"].tolist() == tested["path"].tolist()
    return found.set_index(tested["image_id"].to_numpy())


def same(found: pd.Series, expected: pd.Series) -> bool:
    return bool(((found == expected) | (found.isna() & expected.isna())).all())


def test_probabilities_are_the_workflow_s_to_the_last_bit(
    finished: Project, given: pd.DataFrame, predictor: Predictor
) -> None:
    stored = PROBABILITIES.read(finished.folder / "results/5_classify/pix2pix/focal/probabilities.parquet")
    expected = stored.set_index("image_id").loc[given.index, predictor.classes].to_numpy()
    assert (np.stack(given["probabilities"].to_list()) == expected).all()


@pytest.mark.parametrize("name", ["label", "base_label", "changed", "reason", "near_miss", "near_miss_reason", "trace"])
def test_labels_and_reasons_are_the_workflow_s(finished: Project, given: pd.DataFrame, name: str) -> None:
    labels = REFINED_LABELS.read(finished.folder / "results" / "8_refine" / "refined_labels.parquet").set_index(
        "image_id"
    )
    assert same(given[name], labels.loc[given.index, name])


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("energy_quantile", "energy_quantile"),
        ("distance_quantile", "feature_distance_quantile"),
        ("disagreement", "disagreement"),
        ("branch_b_label", "branch_b_label"),
        ("suspect", "suspect"),
        ("kinds", "kinds"),
        ("suspect_reason", "reason"),
    ],
)
def test_suspicions_are_the_workflow_s(finished: Project, given: pd.DataFrame, name: str, stored: str) -> None:
    suspects = SUSPECTS.read(finished.folder / "results" / "9_review" / "suspects.parquet").set_index("image_id")
    assert same(given[name], suspects.loc[given.index, stored])


def odd_folder(folder: Path, good: Path) -> Path:
    folder.mkdir()
    for name in ("good.jpg", "=1+1.jpg", "two\nlines.jpg", 'quo\'te "x".jpg', os.fsdecode(b"caf\xe9.jpg")):
        shutil.copy(good, folder / name)
    (folder / "cut.jpg").write_bytes(good.read_bytes()[:-300])
    (folder / "page.jpg").write_text("<script>alert(1)</script>")
    (folder / "empty.png").touch()
    Image.fromarray(np.full((40, 50), 255, np.uint8)).save(folder / "blank.png")
    return folder


def test_every_file_has_its_row_and_the_exit_status_tells(tmp_path: Path, bundle: Path, tested: pd.DataFrame) -> None:
    folder = odd_folder(tmp_path / "odd", Path(tested["path"].iloc[0]))
    out = tmp_path / "labels.csv"
    shown = CliRunner().invoke(app, ["predict", "--bundle", str(bundle), "--out", str(out), "--no-exact", str(folder)])
    assert shown.exit_code == 3, shown.output
    assert "9 images" in shown.output and "3 without a label, first" in shown.output
    table = pd.read_csv(out)
    names = table["image_id"].str.removeprefix(f"{folder}/")
    assert set(names[table["label"].isna()]) == {"cut.jpg", "page.jpg", "empty.png"}
    assert (table.loc[table["label"].isna(), "reason"].str.len() > 0).all()
    copies = table[~names.isin(["cut.jpg", "page.jpg", "empty.png", "blank.png"])]
    assert len(copies) == 5 and copies["label"].nunique() == 1
    assert copies.filter(like="p_").drop_duplicates().shape[0] == 1
    blank = table[names == "blank.png"].iloc[0]
    assert not blank["cell_found"] and isinstance(blank["label"], str)
    assert not (tmp_path / ".labels.csv.parts").exists()


def test_a_spreadsheet_computes_nothing(tmp_path: Path, predictor: Predictor, tested: pd.DataFrame) -> None:
    table = tmp_path / "list.csv"
    shutil.copy(tested["path"].iloc[0], tmp_path / "=1+1.jpg")
    table.write_text("image\n=1+1.jpg\n")
    predictor.predict_to(tmp_path / "out.csv", listed([table]))
    assert pd.read_csv(tmp_path / "out.csv")["image_id"].tolist() == ["'=1+1.jpg"]


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, predictor: Predictor, tested: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = listed([Path(path) for path in tested["path"]])
    straight, out = tmp_path / "straight.parquet", tmp_path / "out.parquet"
    predictor.predict_to(straight, rows)
    counted: list[int] = []

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.predict_to(out, rows, stop)
    assert not out.exists()
    once = Predictor.predict_rows

    def counting(self: Predictor, part: pd.DataFrame) -> pd.DataFrame:
        counted.append(len(part))
        return once(self, part)

    monkeypatch.setattr(Predictor, "predict_rows", counting)
    predictor.predict_to(out, rows)
    assert counted == [20, 5] and out.read_bytes() == straight.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] != [] and not (tmp_path / ".out.parquet.parts").exists()


def test_chunks_of_other_images_are_not_used(tmp_path: Path, predictor: Predictor, tested: pd.DataFrame) -> None:
    copies = [Path(shutil.copy(path, tmp_path / f"{k}.jpg")) for k, path in enumerate(tested["path"].head(3))]
    out = tmp_path / "out.parquet"

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predictor.predict_to(out, listed(copies), stop)
    shutil.copy(tested["path"].iloc[7], copies[0])
    table = predictor.predict_to(out, listed(copies))
    assert table["sha256"].tolist() == [sha256_of(path) for path in copies]
    assert same(NEW_IMAGES.read(out)["sha256"], table["sha256"])


@pytest.mark.parametrize("name", ["out.txt", "folder.csv"])
def test_a_result_must_be_a_parquet_or_csv_file(
    tmp_path: Path, predictor: Predictor, tested: pd.DataFrame, name: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="name a file"):
        predictor.predict_to(tmp_path / name, listed([Path(tested["path"].iloc[0])]))


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SPOILT: dict[str, tuple[str, Callable[[Path], object]]] = {
    "classes of another data set": (
        "its classes are not those of bundle.json",
        lambda folder: _replace(folder / "bundle.json", '"BA",', '"XX",'),
    ),
    "settings of another version": (
        "whose settings this version does not take",
        lambda folder: _replace(folder / "bundle.json", '"window_px"', '"windw_px"'),
    ),
    "thresholds that are none": ("not fitted thresholds", lambda folder: write_json({}, folder / "threshold.json")),
    "temperatures that are none": (
        "not fitted temperatures",
        lambda folder: write_json({"temperature": "hot"}, folder / "calibration.json"),
    ),
    "rules that are none": ("not fitted rules", lambda folder: write_json([1], folder / "rules.json")),
    "a fold that is no weights": (
        "fold_0.safetensors: not a whole safetensors file",
        lambda folder: (folder / "fold_0.safetensors").write_bytes(b"no"),
    ),
    "heads that are none": (
        "heads.safetensors",
        lambda folder: shutil.copy(folder / "segmenter.safetensors", folder / "heads.safetensors"),
    ),
}


@pytest.mark.parametrize("what", sorted(SPOILT))
def test_a_bundle_whose_parts_are_wrong_is_refused_also_where_the_digests_fit(
    tmp_path: Path, bundle: Path, what: str
) -> None:
    expected, spoil = SPOILT[what]
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    spoil(folder)
    content: Row = read_json(folder / "bundle.json")
    for name, part in content["files"].items():
        part |= {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
    write_json(content, folder / "bundle.json")
    with pytest.raises(InputError, match=expected):
        Predictor(folder)


def test_the_command_checks_a_bundle(bundle: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["check", "--bundle", str(bundle)])
    assert shown.exit_code == 0 and "whole. white blood cells" in shown.output and "classes BA, BL" in shown.output


def test_an_exported_model_agrees_with_the_network(bundle: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    import torch

    from buffycoat.classify.backbones import normalise
    from buffycoat.classify.predict_fold import load_fold_model

    out = tmp_path / "fold_1.onnx"
    shown = CliRunner().invoke(app, ["export", "--bundle", str(bundle), "--fold", "1", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map["buffycoat"]
    assert '"fold": 1' in about and '"size_px": 32' in about
    codes = read_json(bundle / "bundle.json")["classes"]
    network, settings = load_fold_model(bundle / "fold_1.safetensors", codes)
    for count in (1, 3, 32):
        pixels = torch.rand(
            count, 3, settings.size_px, settings.size_px, generator=torch.Generator().manual_seed(count)
        )
        with torch.inference_mode():
            expected = network(normalise(pixels, network)).numpy()
        (found,) = session.run(None, {"images": pixels.numpy()})
        assert np.abs(found - expected).max() < 1e-5
    with pytest.raises(InputError, match="has no fold 9; its folds are 0, 1"):
        CliRunner().invoke(app, ["export", "--bundle", str(bundle), "--fold", "9"], catch_exceptions=False)
