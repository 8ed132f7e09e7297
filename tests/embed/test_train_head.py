from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from buffycoat.core.errors import InputError
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.embed import EMBEDDINGS, HEAD_HISTORY
from buffycoat.data.tables.index import FOLDS, LABELS
from buffycoat.embed import train_head as module
from buffycoat.embed.settings import TrainHead
from buffycoat.embed.train_head import chances, train_head
from buffycoat.nets.training import Checkpoint
from buffycoat.nets.weights import read_weights
from tests.embed.conftest import write_dataset

SMALL = TrainHead(hidden=(16,), epochs=6, learning_rate=5e-3)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few dozen rows must make several steps an epoch."""
    monkeypatch.setattr(module, "BATCH", 16)


def test_draws_follow_the_sampler_and_the_multipliers() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    for sampler, share in (("none", 0.1), ("sqrt", 0.25), ("balanced", 0.5)):
        p = chances(labels, ["SNE", "PC"], TrainHead(sampler=sampler))  # type: ignore[arg-type]
        assert p[labels == 1].sum() == pytest.approx(share) and p.sum() == pytest.approx(1)
    p = chances(labels, ["SNE", "PC"], TrainHead(sampler="none", multipliers={"PC": 9.0}))
    assert p[labels == 1].sum() == pytest.approx(0.5)


def run_head(folder: Path, name: str, settings: TrainHead = SMALL, seed: int = 1) -> pd.DataFrame:
    inputs = {key: folder / f"{key}.parquet" for key in ("images", "labels", "classes", "folds", "embeddings")}
    out = folder / name
    train_head(
        **inputs, heads=out / "heads.safetensors", probabilities=out / "p.parquet", history=out / "h.parquet",
        seed=seed, settings=settings,
    )  # fmt: skip
    return PROBABILITIES.read(out / "p.parquet")


def test_a_head_that_memorises_is_caught_out_of_fold(noise: Path) -> None:
    keen = SMALL.model_copy(update={"epochs": 60, "sampler": "none"})
    labels = LABELS.read(noise / "labels.parquet")["label"].to_numpy()
    honest = run_head(noise, "a", keen)
    told = run_head(noise, "b", keen.model_copy(update={"cross_fit": False}))
    right = [(table[["BA", "LY"]].idxmax(axis=1).to_numpy() == labels).mean() for table in (honest, told)]
    # Of 90 coin tosses, 0.7 right has a chance of 1 in 10,000.
    assert right[0] < 0.7 and right[1] > 0.95


def test_two_runs_write_the_same_bytes_and_another_seed_does_not(dataset: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_head(dataset, name, seed=seed)
    for file in ("heads.safetensors", "p.parquet", "h.parquet"):
        first, same, other = ((dataset / name / file).read_bytes() for name in ("a", "b", "c"))
        assert first == same and first != other


def test_a_class_of_one_cell_is_learned_by_the_heads_that_see_it_alone(dataset: Path) -> None:
    table = run_head(dataset, "a", SMALL.model_copy(update={"epochs": 60}))
    p = table[["BA", "LY", "PC"]].to_numpy()
    assert np.isfinite(p).all() and np.allclose(p.sum(axis=1), 1)
    tensors = read_weights(dataset / "a" / "heads.safetensors")[0]
    known = LABELS.read(dataset / "labels.parquet")
    vectors = torch.from_numpy(np.stack(EMBEDDINGS.read(dataset / "embeddings.parquet")["embedding"].to_list()))
    alone = np.flatnonzero(known["label"] == "PC")
    judged = {}
    for fold in range(3):
        own = {k.removeprefix(f"fold_{fold}."): v for k, v in tensors.items() if k.startswith(f"fold_{fold}.")}
        judged[fold] = module.head_probabilities(own, vectors[alone], 3, SMALL)[0]
    assert np.allclose(p[alone[0]], judged[2]), "the head of its own fold has no PC"
    assert judged[2].argmax() != 2 and judged[0].argmax() == 2 and judged[1].argmax() == 2


def test_a_fold_may_hold_all_cells_of_a_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels: list[str | None] = [("PC", "BA", "LY")[k % 3] for k in range(36)]
    table = run_head(write_dataset(tmp_path, rng.normal(0, 1, (36, 8)), labels, ["BA", "LY", "PC"]), "a")
    assert np.isfinite(table[["BA", "LY", "PC"]].to_numpy()).all() and len(table) == 36


def test_tables_that_do_not_belong_together_are_refused(dataset: Path) -> None:
    folds = FOLDS.read(dataset / "folds.parquet")
    FOLDS.write(folds.iloc[1:], dataset / "folds.parquet")
    with pytest.raises(InputError, match=r"folds\.parquet: 1 rows lost, 0 invented, for instance '0'"):
        run_head(dataset, "a")
    FOLDS.write(folds.assign(fold=0), dataset / "folds.parquet")
    with pytest.raises(InputError, match="fewer than two folds"):
        run_head(dataset, "a")
    FOLDS.write(folds, dataset / "folds.parquet")
    stored = EMBEDDINGS.read(dataset / "embeddings.parquet")
    EMBEDDINGS.write(stored.iloc[:-1], dataset / "embeddings.parquet")
    with pytest.raises(InputError, match=r"embeddings\.parquet: 1 rows lost"):
        run_head(dataset, "a")


def test_a_diverging_head_is_said(dataset: Path) -> None:
    with pytest.raises(InputError, match=r"diverged: lower embed\.train_head\.learning_rate"):
        run_head(dataset, "a", SMALL.model_copy(update={"learning_rate": 1e30}))


def test_the_paper_preset_is_the_papers_head() -> None:
    preset = yaml.safe_load((Path(__file__).parents[2] / "workflow" / "presets" / "paper.yaml").read_text())["embed"]
    head = TrainHead.model_validate(preset["train_head"])
    assert (head.epochs, head.learning_rate, module.WEIGHT_DECAY) == (15, 1e-4, 1e-5)
    assert (head.hidden, module.PROJECTION, module.DROPOUT) == ((1024, 512), 256, 0.05)
    assert (module.CONTRASTIVE_SHARE, module.TEMPERATURE, module.GAMMA) == (0.3, 0.07, 2)
    assert head.sampler == "none" and head.noise == 0.06 and not head.standardise
    assert head.multipliers == {"PC": 50, "PLY": 50, "MMY": 5, "BNE": 5, "SNE": 0.5, "LY": 0.5}
    assert not head.cross_fit, "all labelled data"
    assert TrainHead().cross_fit


def test_the_heads_are_cross_fitted(dataset: Path) -> None:
    table = run_head(dataset, "a", SMALL.model_copy(update={"epochs": 60}))
    assert table["source"].tolist() == ["out_of_fold"] * 36 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1)
    assert (table["BA"].iloc[:18] > table["LY"].iloc[:18]).mean() > 0.75
    assert (table["BA"].iloc[36:] > 0.5).all()
    # Another label on a held-out row moves that row's fold not at all.
    known = LABELS.read(dataset / "labels.parquet")
    known.loc[0, "label"] = "LY"
    LABELS.write(known, dataset / "labels.parquet")
    again = run_head(dataset, "b", SMALL.model_copy(update={"epochs": 60}))
    fold_0 = [k for k in range(36) if k % 3 == 0]
    assert np.array_equal(again[["BA", "LY"]].iloc[fold_0], table[["BA", "LY"]].iloc[fold_0])
    assert not np.array_equal(again["BA"].iloc[1:3], table["BA"].iloc[1:3])
    heads = [read_weights(dataset / name / "heads.safetensors")[0] for name in ("a", "b")]
    moved = {name.split(".")[0] for name in heads[0] if not torch.equal(heads[0][name], heads[1][name])}
    assert moved == {"fold_1", "fold_2"}


def test_an_interrupted_run_ends_with_the_same_bytes(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_head(dataset, "straight")
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        if len(state["heads"]) == 2:  # type: ignore[arg-type]
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_head(dataset, "halted")
    monkeypatch.setattr(module.Checkpoint, "save", save)
    run_head(dataset, "halted")
    files = [dataset / name / "heads.safetensors" for name in ("straight", "halted")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(HEAD_HISTORY.read(dataset / "halted" / "h.parquet")) == 3 * SMALL.epochs
    assert sorted({name.split(".")[0] for name in read_weights(files[0])[0]}) == ["fold_0", "fold_1", "fold_2"]


def test_without_cross_fitting_nothing_claims_to_be_out_of_fold(dataset: Path) -> None:
    table = run_head(dataset, "a", SMALL.model_copy(update={"cross_fit": False}))
    assert table["source"].tolist() == ["in_sample"] * 36 + ["fold_mean"] * 4
