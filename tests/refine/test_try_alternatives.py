from __future__ import annotations

from pathlib import Path

import pytest

from buffycoat.core.errors import InputError
from buffycoat.data.methods import WAY_NAMES
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.refine import ALTERNATIVES, REFINED_LABELS
from buffycoat.refine.try_alternatives import PHASES, WAYS, try_alternatives
from tests.refine.test_refine_labels import INPUTS, fit, refine, write_tables


def tried(folder: Path) -> dict[str, Path]:
    paths = write_tables(folder) | {"alternatives": folder / "alternatives.parquet"}
    fit(paths)
    refine(paths)
    run(paths)
    return paths


def run(paths: dict[str, Path]) -> None:
    inputs = {name: paths[name] for name in (*INPUTS, "labels", "folds", "refined_labels", "alternatives")}
    try_alternatives(**inputs)


def test_every_way_labels_every_image(tmp_path: Path) -> None:
    paths = tried(tmp_path)
    table = ALTERNATIVES.read(paths["alternatives"])
    labels = REFINED_LABELS.read(paths["refined_labels"]).set_index("image_id")
    assert set(table["way"]) == set(WAY_NAMES) == {*PHASES, *WAYS}
    for way, rows in table.groupby("way"):
        assert rows["image_id"].tolist() == labels.index.tolist()
        if way in PHASES:
            assert (rows.set_index("image_id")["label"] == labels[PHASES[str(way)]]).all()


@pytest.mark.parametrize("name", ["probabilities", "head_probabilities"])
def test_predictions_of_models_that_saw_the_image_are_not_used(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths = tried(tmp_path)
    PROBABILITIES.write(PROBABILITIES.read(paths[name]).assign(source="fold_mean"), paths[name])
    if name == "probabilities":
        with pytest.raises(InputError, match="are not predicted out of fold"):
            run(paths)
        return
    run(paths)
    assert set(ALTERNATIVES.read(paths["alternatives"])["way"]) == {*PHASES, "prior_correction", "count_matching"}
    assert "left out, since branch B has seen the training cells (cross_fit: false): branch_b, " in caplog.text
