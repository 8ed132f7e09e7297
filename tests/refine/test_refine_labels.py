"""The steps `fit_rules` and `refine_labels` as plain functions on small tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.index import CLASSES as CLASSES_TABLE
from buffycoat.data.tables.index import FOLDS, LABELS
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.refine import fit_rules as module
from buffycoat.refine.fit_rules import fit_rules
from buffycoat.refine.refine_labels import refine_labels
from buffycoat.refine.rules import Rulebook, read_rulebook, write_rulebook
from tests.index_tables import write_index
from tests.refine.cases import CLASSES, given
from tests.refine.test_fitting import training

COUNTS = {"LY": 120, "SNE": 80, "PC": 30, "PLY": 6, "VLY": 30}
INPUTS = ("images", "classes", "probabilities", "head_probabilities", "morphology")


def write_tables(folder: Path, codes: tuple[str, ...] = CLASSES, counts: dict[str, int] = COUNTS) -> dict[str, Path]:
    """Tables of 266 training cells, of which every tenth becomes a test cell, and one file that cannot be decoded."""
    cells = training(counts, classes=codes)
    n = len(cells.labels)
    ids = np.array([f"{i:04d}.jpg" for i in range(n)])
    test = np.arange(n) % 10 == 3
    paths = {name: folder / f"{name}.parquet" for name in (*INPUTS, "labels", "folds", "refined_labels")} | {
        "rules": folder / "rules.json"
    }
    images = pd.DataFrame({"image_id": ids, "label": pd.Series(cells.labels).mask(test)})
    images = images.assign(role=np.where(test, "test", "train"), status=np.where(test, "unlabelled", "ok"))
    images = pd.concat(
        [images, pd.DataFrame([{"image_id": "bad", "label": "LY", "role": "train", "status": "missing"}])]
    )
    write_index(images, folder)
    position = np.arange(len(codes))
    classes = pd.DataFrame({"code": codes, "name": codes, "position": position, "images": 9, "groups": None})
    CLASSES_TABLE.write(classes.iloc[::-1], paths["classes"])
    FOLDS.write(pd.DataFrame({"image_id": ids[~test], "fold": cells.folds[~test]}), paths["folds"])
    source = np.where(test, "fold_mean", "out_of_fold")
    for name, values in (("probabilities", cells.evidence.p), ("head_probabilities", cells.evidence.s)):
        frame = pd.DataFrame(values, columns=list(codes)).assign(image_id=ids, source=source)
        # Neither the order of rows nor that of columns is relied on.
        PROBABILITIES.write(frame.iloc[::-1, ::-1], paths[name])
    shapes = pd.DataFrame(cells.evidence.features)
    others = {column.name: 1.0 for column in MORPHOLOGY.columns if column.gaps and column.name not in shapes}
    shapes = shapes.assign(**{**others, "lobes": 1, "nucleus_from": "carried"}, image_id=ids, measured=True, reason="")
    MORPHOLOGY.write(shapes.sample(frac=1, random_state=1), paths["morphology"])
    return paths


def fit(paths: dict[str, Path], **settings: Any) -> Rulebook:
    inputs = {name: paths[name] for name in (*INPUTS, "labels", "folds", "rules")}
    fit_rules(**inputs, settings=given(**settings))
    return read_rulebook(paths["rules"])


def refine(paths: dict[str, Path]) -> pd.DataFrame:
    inputs = {name: paths[name] for name in (*INPUTS, "folds", "rules", "refined_labels")}
    refine_labels(**inputs)
    return REFINED_LABELS.read(paths["refined_labels"])


def test_rare_cells_are_found_and_each_change_is_explained(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    rulebook = fit(paths)
    assert [fitted.state for fitted in rulebook.rules] == ["on", "on"]
    assert rulebook.rows == 239
    labels = refine(paths)
    true = training(COUNTS).labels
    assert labels["image_id"].tolist() == [f"{i:04d}.jpg" for i in range(len(true))]
    assert (labels["base_label"].to_numpy()[true == "PC"] == "LY").all()
    assert (labels["label"].to_numpy()[true == "PC"] == "PC").mean() >= 0.7
    assert (labels["label"] == labels["phase_3"]).all()
    changed = labels["label"] != labels["base_label"]
    assert (labels["changed"] == changed).all() and changed.sum() > 20
    assert (labels["reason"] != "").equals(changed)
    assert labels.loc[changed, "reason"].str.startswith("Relabelled LY → ").all()
    for row in labels.itertuples():
        trace = json.loads(str(row.trace))
        rescuers = [entry["rule"] for entry in trace if entry["verdict"] == "rescued"]
        assert rescuers == ([row.label] if row.label in ("PC", "PLY") else [])
        assert all(entry["phase_1"]["threshold"] == pytest.approx(row.suppressed_probability) for entry in trace)
    near = labels["near_miss"].notna()
    assert near.any() and not (near & changed).any() and labels.loc[near, "near_miss"].isin(["PC", "PLY"]).all()
    assert labels.loc[near, "near_miss_reason"].str.match("Nearly PL?[YC], but ").all()
    assert (labels.loc[~near, "near_miss_reason"] == "").all()
    # Every plasma cell is a candidate; most other cells are not.
    assert (labels["trace"] == "[]").mean() > 0.8


def test_both_steps_give_the_same_bytes_again(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    fit(paths)
    refine(paths)
    before = paths["rules"].read_bytes(), paths["labels"].read_bytes()
    fit(paths)
    refine(paths)
    assert (paths["rules"].read_bytes(), paths["labels"].read_bytes()) == before


def test_without_rules_branch_as_labels_stay(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    assert fit(paths, rules=(), thresholds="fitted").rules == ()
    labels = refine(paths)
    for name in ("suppressed_label", "phase_1", "phase_2", "phase_3", "label"):
        assert (labels[name] == labels["base_label"]).all()
    assert not labels["changed"].any() and (labels["trace"] == "[]").all() and (labels["reason"] == "").all()
    assert labels["near_miss"].isna().all()


def test_a_data_set_without_rescued_classes_keeps_its_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Nine classes of which none is rescued; PC and PLY are called otherwise.
    paths = write_tables(tmp_path, tuple({"PC": "BA", "PLY": "EO"}.get(code, code) for code in CLASSES), {"LY": 40})
    caplog.set_level("INFO", "buffycoat")
    rulebook = fit(paths)
    assert [fitted.reason for fitted in rulebook.rules] == [
        "this data set has no class PLY",
        "this data set has no class PC",
    ]
    labels = refine(paths)
    assert not labels["changed"].any() and (labels["label"] == labels["base_label"]).all()
    assert "rule PC is off: this data set has no class PC" in caplog.text


def test_test_images_have_no_say_in_the_rules(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    before = fit(paths)
    for name, table in (("probabilities", PROBABILITIES), ("morphology", MORPHOLOGY)):
        frame = table.read(paths[name])
        of_test = frame["image_id"].str[3] == "3"
        number = "LY" if name == "probabilities" else "area_px"
        frame.loc[of_test, number] = frame.loc[of_test, number] * 3 + 1
        table.write(frame, paths[name])
    assert fit(paths) == before


def test_images_without_an_embedding_are_dropped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write_tables(tmp_path)
    head = PROBABILITIES.read(paths["head_probabilities"])
    lost = {f"{i:04d}.jpg" for i in range(200, 215)}
    PROBABILITIES.write(head[~head["image_id"].isin(lost)], paths["head_probabilities"])
    assert fit(paths).without_embedding == 13
    caplog.set_level("INFO", "buffycoat")
    labels = refine(paths).set_index("image_id").loc[sorted(lost)]
    assert (labels["phase_1"] == "PC").all() and (labels["label"] == "LY").all()
    trace = json.loads(str(labels["trace"].iloc[0]))
    assert trace[-1]["phase_2"]["value"] is None and trace[-1]["verdict"] == "refused in phase 2"
    assert "15 dropped without an embedding" in caplog.text


def test_unmeasured_cells_keep_their_host(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    shapes = MORPHOLOGY.read(paths["morphology"])
    lost = shapes["image_id"].isin([f"{i:04d}.jpg" for i in range(200, 215)])
    shapes.loc[lost, [column.name for column in MORPHOLOGY.columns if column.gaps]] = None
    MORPHOLOGY.write(shapes.assign(measured=~lost), paths["morphology"])
    assert fit(paths).unmeasured == 13
    labels = refine(paths).set_index("image_id").loc[sorted(shapes.loc[lost, "image_id"])]
    assert (labels["phase_2"] == "PC").all() and (labels["label"] == "LY").all()


@pytest.mark.parametrize("name", ["probabilities", "head_probabilities"])
def test_predictions_of_models_that_saw_the_image_are_refused(tmp_path: Path, name: str) -> None:
    paths = write_tables(tmp_path)
    frame = PROBABILITIES.read(paths[name]).assign(source="fold_mean")
    PROBABILITIES.write(frame, paths[name])
    with pytest.raises(InputError, match=rf"{name}\.parquet: 239 training images are not predicted out of fold"):
        fit(paths)
    if name == "head_probabilities":
        assert fit(paths, switch="always").rules[1].state == "on"


def test_tables_of_other_images_or_classes_are_refused(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    fit(paths)
    whole = PROBABILITIES.read(paths["probabilities"])
    PROBABILITIES.write(whole.iloc[:-2], paths["probabilities"])
    with pytest.raises(InputError, match=r"probabilities\.parquet: 2 rows lost"):
        refine(paths)
    PROBABILITIES.write(whole.rename(columns={"PC": "XX"}), paths["probabilities"])
    with pytest.raises(InputError, match="its classes are"):
        refine(paths)
    PROBABILITIES.write(whole, paths["probabilities"])
    PROBABILITIES.write(whole.assign(image_id="x" + whole["image_id"]), paths["head_probabilities"])
    with pytest.raises(InputError, match=r"head_probabilities\.parquet: 0 rows lost, 266 invented"):
        refine(paths)


def test_rules_are_read_strictly(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    rulebook = fit(paths)
    content = json.loads(paths["rules"].read_text())
    paths["rules"].write_text(json.dumps({**content, "more": 1}))
    with pytest.raises(InputError, match=r"rules\.json: not fitted rules \(more: "):
        refine(paths)
    paths["rules"].write_text("[]")
    with pytest.raises(InputError, match="not fitted rules"):
        refine(paths)
    paths["rules"].unlink()
    with pytest.raises(InputError, match="no such file"):
        refine(paths)
    stranger = rulebook.rules[1].rule.model_copy(update={"rescued": "ZZ"})
    other = rulebook.rules[1].model_copy(update={"rule": stranger})
    write_rulebook(rulebook.model_copy(update={"rules": (other,)}), paths["rules"])
    with pytest.raises(InputError, match=r"rules for \['ZZ'\]"):
        refine(paths)


def test_rules_are_found_and_fitted_by_default(tmp_path: Path) -> None:
    paths = write_tables(tmp_path, counts={**COUNTS, "LY": 700, "SNE": 500})
    rulebook = fit(paths, rules="found", thresholds="fitted")
    found = {fitted.rule.rescued: fitted for fitted in rulebook.rules}
    assert found["PC"].state == "on" and found["PC"].rule.hides_in == ("LY",) and not found["PC"].rule.suppress
    assert found["PC"].without_rise is not None and found["PC"].without_rise <= 0.1
    labels = refine(paths)
    true = np.repeat(list({**COUNTS, "LY": 700, "SNE": 500}), [700, 500, 30, 6, 30])
    assert (labels["label"].to_numpy()[true == "PC"] == "PC").mean() > 0.8
    assert (labels["label"].to_numpy()[true == "LY"] == "LY").mean() > 0.98


def test_a_training_cell_is_labelled_by_rules_that_never_saw_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_tables(tmp_path)
    monkeypatch.setattr(module, "RARE_BELOW", 0.2)
    settings = {"rules": "found", "thresholds": "fitted", "switch": "always"}
    fit(paths, **settings)
    before = refine(paths).set_index("image_id")
    known, folds = LABELS.read(paths["labels"]), FOLDS.read(paths["folds"]).set_index("image_id")["fold"]
    own = known["image_id"].map(folds) == 0
    wrong = known["label"].where(~own | (known["label"] != "PC"), "SNE")
    LABELS.write(known.assign(label=wrong), paths["labels"])
    fit(paths, **settings)
    after = refine(paths).set_index("image_id")
    chosen = folds.index[folds == 0]
    assert (before.loc[chosen, "label"] == "PC").any()
    assert before.loc[chosen, ["label", "trace"]].equals(after.loc[chosen, ["label", "trace"]])


def test_rules_without_a_fold_are_refused(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    rulebook = fit(paths)
    write_rulebook(rulebook.model_copy(update={"by_fold": {0: ()}}), paths["rules"])
    with pytest.raises(InputError, match="hold none for fold 1; run fit_rules again"):
        refine(paths)
