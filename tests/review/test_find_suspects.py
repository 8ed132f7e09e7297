"""The step `find_suspects` on small tables, and the sentences that it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp, softmax

from buffycoat.core.errors import InputError
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.review import outliers
from buffycoat.review.find_suspects import find_suspects
from buffycoat.review.outliers import mean_distance, read_familiar
from buffycoat.review.settings import FindSuspects
from tests.index_tables import write_index

CODES = ["LY", "MO", "SNE"]
N, TRAINED = 240, 200
IDS = np.array([f"{k:03d}.jpg" for k in range(N)], object)
NUMBERS = np.arange(N) % 3
FOLD = np.arange(N) // 3 % 4
WRONG, UNFAMILIAR, FAR, DISPUTED = 31, 62, 91, 121
"""Planted: a wrong label, flat logits, an embedding far away, a cell of which the branches say different things."""
LOST, CROWDED = 150, TRAINED + 5
"""Planted: an image without a cell, and one with three."""


def write_tables(folder: Path, shuffled: bool = False) -> dict[str, Any]:
    """200 training and 40 test cells in four folds, two views, one undecodable file."""
    rng = np.random.default_rng(0)
    order = np.random.default_rng(5).permutation(N) if shuffled else np.arange(N)
    given = NUMBERS.copy()
    given[WRONG] = (given[WRONG] + 1) % 3
    tested = np.arange(N) >= TRAINED
    images = pd.DataFrame({"image_id": IDS, "label": pd.Series(np.array(CODES, object)[given]).mask(tested, None)})
    images = images.assign(role=np.where(tested, "test", "train"), status="ok").iloc[order]
    bad = pd.DataFrame([{"image_id": "bad", "label": "LY", "role": "train", "status": "missing"}])
    write_index(pd.concat([images, bad]), folder)
    classes = pd.DataFrame({"code": CODES, "name": CODES, "position": range(3), "images": 9, "groups": None})
    CLASSES.write(classes, folder / "classes.parquet")
    folds = pd.DataFrame({"image_id": IDS, "fold": FOLD})[~tested]
    FOLDS.write(folds.iloc[::-1] if shuffled else folds, folder / "folds.parquet")
    logits = 5 * np.eye(3)[NUMBERS] + rng.normal(0, 0.3, (N, 3))
    logits[UNFAMILIAR] = [0.2, 0.1, 0.0]
    for fold in range(4):
        rows = np.flatnonzero(tested | (fold == FOLD))
        # Views and folds differ by class: a shift of all logits would be the same before and after any mean.
        turn = np.array([0.8, -0.8, 0.0])
        views = np.concatenate([logits[rows] + turn, logits[rows] - turn]) + 0.5 * np.eye(3)[fold % 3]
        frame = pd.DataFrame(views, columns=CODES).assign(image_id=np.tile(IDS[rows], 2), fold=fold)
        frame = frame.assign(view=np.repeat([0, 1], len(rows)), out_of_fold=np.tile(~tested[rows], 2))
        LOGITS.write(frame.sample(frac=1, random_state=1) if shuffled else frame, folder / f"logits_{fold}.parquet")
    b = 4 * np.eye(3)[NUMBERS] + rng.normal(0, 0.3, (N, 3))
    b[DISPUTED] = 6 * np.eye(3)[(NUMBERS[DISPUTED] + 1) % 3]
    source = np.where(tested, "fold_mean", "out_of_fold")
    for name, values in (("probabilities", logits), ("head_probabilities", b)):
        frame = pd.DataFrame(softmax(values, axis=1), columns=CODES).assign(image_id=IDS, source=source)
        PROBABILITIES.write(frame.iloc[order, ::-1], folder / f"{name}.parquet")
    vectors = np.eye(8)[NUMBERS] + rng.normal(0, 0.05, (N, 8))
    vectors[FAR] = -np.eye(8)[5]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = pd.DataFrame({"image_id": IDS, "embedding": list(vectors.astype(np.float32))})
    EMBEDDINGS.write(embeddings.iloc[order[::-1]], folder / "embeddings.parquet")
    masks = np.where(np.arange(N) == CROWDED, 3, 1)
    cells = pd.DataFrame({"image_id": IDS, "found": np.arange(N) != LOST, "masks": masks})
    places = dict.fromkeys(("shard", "reason"), "") | dict.fromkeys(("row", "col"), 0.0) | {"touches_border": False}
    sizes = dict.fromkeys(("shard_row", "crc32", "window_px", "area_px", "nucleus_area_px"), 9)
    CROPS.write(cells.assign(**places, **sizes).iloc[order], folder / "crops.parquet")
    names = (
        "crops",
        "images",
        "labels",
        "classes",
        "folds",
        "probabilities",
        "head_probabilities",
        "embeddings",
        "suspects",
    )
    paths: dict[str, Any] = {name: folder / f"{name}.parquet" for name in (*names, "suspects")}
    return paths | {
        "logits": [folder / f"logits_{fold}.parquet" for fold in range(4)],
        "familiar": folder / "familiar.safetensors",
    }


def find(paths: dict[str, Any], **settings: Any) -> pd.DataFrame:
    find_suspects(**paths, settings=FindSuspects(**{"quantile": 0.995, **settings}))
    return SUSPECTS.read(paths["suspects"])


@pytest.fixture(autouse=True)
def few_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliers, "COMPONENTS", 5)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Any]:
    return write_tables(tmp_path)


def test_every_planted_suspect_is_found_for_its_own_reason(
    paths: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "buffycoat")
    table = find(paths)
    assert table["image_id"].tolist() == IDS.tolist(), "one row per decodable image, in the order of the images"
    kinds = table["kinds"]
    assert kinds[WRONG] == "label" and kinds[FAR] == "distance" and kinds[DISPUTED] == "disagreement"
    assert {"energy", "probability"} <= set(kinds[UNFAMILIAR].split(","))
    assert kinds[LOST] == "no_cell" and kinds[CROWDED] == "several_cells"
    learned = table["source"] == "out_of_fold"
    assert table.loc[learned, "energy"].idxmax() == UNFAMILIAR
    assert table.loc[learned, "feature_distance"].idxmax() == FAR
    assert table["disagreement"].idxmax() == DISPUTED and table["label_doubt"].idxmax() == WRONG
    assert table.loc[WRONG, ["label_rank", "likely_label"]].tolist() == [1, CODES[NUMBERS[WRONG]]]
    assert (table["suspect"] == (table["reason"] != "")).all() and (table["suspect"] == (kinds != "")).all()
    assert table["suspect"].sum() < 0.1 * N
    assert "suspects by label: 1 of 200 training images, 0 of 40 others" in caplog.text
    assert f"{table['suspect'].sum()} of 240 images are suspect" in caplog.text


def test_sentences_say_why_in_one_sentence(paths: dict[str, Any]) -> None:
    reasons = find(paths)["reason"]
    assert reasons[WRONG].startswith("Labelled SNE but both branches say MO (doubt 0.9")
    assert reasons[WRONG].endswith("rank 1 of its class).")
    assert reasons[DISPUTED].startswith("Branch A says MO, branch B SNE (divergence 0.9")
    assert reasons[FAR].endswith("SD) than 99.5 % of the training images.")
    assert reasons[LOST] == "No white cell was found: what lies in the middle was labelled."
    assert reasons[CROWDED] == "3 white cells were found, and one of them was labelled."
    assert reasons[UNFAMILIAR].startswith("Branch A is unsure: LY has a probability of 0.37 (suspect up to 0.")
    assert "less evidence for any class than in 99.5 % of the training images" in reasons[UNFAMILIAR]


def test_energy_is_of_the_mean_over_views_and_averaged_over_folds(paths: dict[str, Any]) -> None:
    table = find(paths).set_index("image_id")
    frames = [LOGITS.read(path) for path in paths["logits"]]
    for row in (WRONG, TRAINED + 3):
        own = [frame[frame["image_id"] == IDS[row]][CODES].to_numpy(np.float64) for frame in frames]
        energies = [-logsumexp(values.mean(axis=0)) for values in own if len(values)]
        assert len(energies) == (1 if row < TRAINED else 4)
        assert np.mean(energies) != pytest.approx(np.mean([-logsumexp(row) for values in own for row in values]))
        assert table.loc[IDS[row], "energy"] == pytest.approx(np.mean(energies))


def test_quantiles_are_shares_of_the_training_images(paths: dict[str, Any]) -> None:
    table = find(paths)
    learned = table["source"] == "out_of_fold"
    for name in ("energy", "feature_distance"):
        values = table.loc[learned, name].to_numpy()
        expected = [(values < value).mean() for value in table[name]]
        assert table[f"{name}_quantile"].tolist() == pytest.approx(expected)


def test_the_order_of_rows_says_nothing(paths: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "shuffled").mkdir()
    shuffled = find(write_tables(tmp_path / "shuffled", shuffled=True)).sort_values("image_id", ignore_index=True)
    pd.testing.assert_frame_equal(find(paths), shuffled, check_exact=True)


def test_the_label_of_a_cell_has_no_say_in_its_own_energy_distance_and_disagreement(paths: dict[str, Any]) -> None:
    before = find(paths)
    known = LABELS.read(paths["labels"])
    own = known["image_id"].isin(IDS[:TRAINED][FOLD[:TRAINED] == 2])
    known.loc[own, "label"] = "LY"
    LABELS.write(known, paths["labels"])
    after = find(paths)
    held = np.flatnonzero((FOLD == 2) & (np.arange(N) < TRAINED))
    for name in ("energy", "feature_distance", "disagreement"):
        assert after.loc[held, name].equals(before.loc[held, name])


def test_test_images_have_no_say_and_no_label_columns(paths: dict[str, Any]) -> None:
    before = find(paths)
    tested = before["role"] == "test"
    assert before.loc[tested, ["given_label", "label_doubt", "label_rank", "likely_label"]].isna().all(axis=None)
    assert before.loc[~tested, ["given_label", "label_doubt", "label_rank", "likely_label"]].notna().all(axis=None)
    for name, table in (("embeddings", EMBEDDINGS), ("head_probabilities", PROBABILITIES)):
        frame = table.read(paths[name])
        lost = frame["image_id"].isin(IDS[TRAINED:])
        table.write(frame[~lost], paths[name])
    after = find(paths)
    pd.testing.assert_frame_equal(before[~tested], after[~tested])


def test_images_without_an_embedding_have_gaps_and_are_judged_by_branch_a(
    paths: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    for name, table in (("embeddings", EMBEDDINGS), ("head_probabilities", PROBABILITIES)):
        frame = table.read(paths[name])
        table.write(frame[~frame["image_id"].isin([IDS[WRONG], IDS[230]])], paths[name])
    rows = find(paths).loc[[WRONG, 230]]
    gaps = ["feature_distance", "feature_distance_quantile", "branch_b_label", "disagreement"]
    assert rows[gaps].isna().all(axis=None)
    assert rows[["energy", "branch_a_label"]].notna().all(axis=None)
    assert rows.loc[WRONG, "kinds"] == "label" and rows.loc[WRONG, "likely_label"] == "MO"
    assert rows.loc[WRONG, "reason"].startswith("Labelled SNE but MO is likelier")
    assert "2 images have no embedding" in caplog.text


def test_a_branch_b_that_has_learned_the_images_does_not_judge_labels(
    paths: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    frame = PROBABILITIES.read(paths["head_probabilities"])
    # It repeats what it was told: the wrong label too.
    wrong = frame["image_id"] == IDS[WRONG]
    frame.loc[wrong, CODES] = [0.0, 0.0, 1.0]
    learned = frame["source"] == "out_of_fold"
    PROBABILITIES.write(frame.assign(source=frame["source"].mask(learned, "in_sample")), paths["head_probabilities"])
    table = find(paths)
    assert "branch B has learned 200 training images" in caplog.text
    assert "label" in table.loc[WRONG, "kinds"] and table.loc[WRONG, "likely_label"] == "MO"


def test_a_class_of_one_image_is_not_called_wrong(paths: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    known = LABELS.read(paths["labels"])
    known.loc[5, "label"] = "PMY"
    LABELS.write(known, paths["labels"])
    CLASSES.write(
        pd.DataFrame({"code": [*CODES, "PMY"], "name": "x", "position": range(4), "images": 9, "groups": None}),
        paths["classes"],
    )
    for path in (paths["probabilities"], paths["head_probabilities"]):
        PROBABILITIES.write(PROBABILITIES.read(path).assign(PMY=0.0), path)
    for path in paths["logits"]:
        LOGITS.write(LOGITS.read(path).assign(PMY=-9.0), path)
    row = find(paths).loc[5]
    assert row["given_label"] == "PMY" and "label" not in row["kinds"] and pd.isna(row["label_doubt"])
    assert np.isfinite(row["feature_distance"])
    assert "1 labels cannot be judged" in caplog.text


def test_no_training_image_at_all_leaves_gaps(paths: dict[str, Any]) -> None:
    images = IMAGES.read(paths["images"])
    status = images["status"].mask(images["role"] == "train", "missing")
    IMAGES.write(images.assign(status=status), paths["images"])
    LABELS.write(LABELS.read(paths["labels"]).assign(status=status), paths["labels"])
    FOLDS.write(FOLDS.read(paths["folds"]).iloc[:0], paths["folds"])
    for path in (paths["probabilities"], paths["head_probabilities"], *paths["logits"]):
        kind = LOGITS if path in paths["logits"] else PROBABILITIES
        frame = kind.read(path)
        kind.write(frame[frame["image_id"].isin(IDS[TRAINED:])], path)
    table = find(paths)
    assert len(table) == N - TRAINED and table[["feature_distance", "energy_quantile"]].isna().all(axis=None)


def test_tables_that_do_not_fit_are_refused(paths: dict[str, Any]) -> None:
    kept = {path: path.read_bytes() for path in (*paths["logits"], paths["probabilities"], paths["folds"])}

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            find(paths)
        for path, content in kept.items():
            path.write_bytes(content)

    first = LOGITS.read(paths["logits"][0])
    LOGITS.write(first[first["image_id"] != IDS[0]], paths["logits"][0])
    refused("1 rows lost")
    LOGITS.write(first[first["image_id"] != IDS[TRAINED]], paths["logits"][0])
    refused("lacks the logits of a fold")
    LOGITS.write(first.assign(fold=1), paths["logits"][0])
    refused("a fold that learned it")
    LOGITS.write(first.rename(columns={"MO": "XX"}), paths["logits"][0])
    refused("its classes are not")
    PROBABILITIES.write(PROBABILITIES.read(paths["probabilities"]).assign(source="fold_mean"), paths["probabilities"])
    refused("not predicted out of fold")
    FOLDS.write(FOLDS.read(paths["folds"]).iloc[1:], paths["folds"])
    refused("1 rows lost")


def test_what_is_familiar_is_kept_and_measures_new_images_as_the_step_does(tmp_path: Path) -> None:
    paths = write_tables(tmp_path)
    table = find(paths).set_index("image_id")
    familiar = read_familiar(paths["familiar"])
    learned = table[table["source"] == "out_of_fold"]
    assert sorted(familiar.energies) == sorted(learned["energy"])
    assert sorted(familiar.distances) == sorted(learned["feature_distance"])
    vectors = EMBEDDINGS.read(paths["embeddings"]).set_index("image_id")["embedding"]
    others = table.index[table["source"] == "fold_mean"]
    distances = mean_distance(familiar.models.values(), np.stack(vectors.loc[others].to_list()))
    assert (distances == table.loc[others, "feature_distance"]).all() and len(others) > 0


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-9], lambda data: b"", lambda data: data.replace(b"axes", b"taxi")]
)
def test_damaged_models_of_what_is_familiar_are_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    paths = write_tables(tmp_path)
    find(paths)
    paths["familiar"].write_bytes(spoil(paths["familiar"].read_bytes()))
    with pytest.raises(InputError, match="familiar.safetensors: not the models"):
        read_familiar(paths["familiar"])
