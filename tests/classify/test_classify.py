from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from buffycoat.classify import train_fold as module
from buffycoat.classify.augment import augment, draw_parameters, move, recolour
from buffycoat.classify.combine_folds import combine_folds, mean_probabilities, softmax
from buffycoat.classify.imbalance import class_weights, draw_factor, effective_share, log_factor
from buffycoat.classify.losses import RECIPES, cross_entropy, focal
from buffycoat.classify.predict_fold import judged_rows, predict_fold
from buffycoat.classify.settings import CombineFolds, PredictFold, TrainFold
from buffycoat.classify.train_fold import train_fold
from buffycoat.classify.views import view_of
from buffycoat.errors import InputError
from buffycoat.images import CYTOPLASM, ShardWriter
from buffycoat.tables.cells import CELLS
from buffycoat.tables.classes import CLASSES
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.logits import LOGITS
from buffycoat.tables.probabilities import PROBABILITIES
from buffycoat.tables.training_history import TRAINING_HISTORY
from buffycoat.training import Checkpoint

SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
TINY = TrainFold(
    backbone="swin_tiny_patch4_window7_224", backbone_options=SWIN, size_px=32, epochs=3, batch=8, background="keep",
    learning_rate=3e-3, warm_up=0.0,
)  # fmt: skip
COUNTS = np.array([1000, 100, 10, 0])


# --- losses -----------------------------------------------------------------------------------------------------------


def slow_focal(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, gamma: float, kind: str) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        p = math.exp(row[label]) / sum(math.exp(value) for value in row)
        ce = weights[label].item() * -math.log(p)
        p_t = p if kind == "textbook" else math.exp(-ce)
        total += (1 - p_t) ** gamma * ce
    return total / len(labels)


@pytest.mark.parametrize("kind", ["textbook", "weighted"])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_is_its_definition(kind: str, gamma: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(16, 4), torch.randint(0, 4, (16,))
    weights = torch.tensor([0.2, 0.8, 1.7, 1.3])
    settings = TrainFold(gamma=gamma, focal_p=kind)  # type: ignore[arg-type]
    value = focal(logits, labels, weights, settings).item()
    assert value == pytest.approx(slow_focal(logits, labels, weights, gamma, kind), rel=1e-5)


def test_focal_without_focusing_or_weights_is_cross_entropy_and_both_p_agree() -> None:
    torch.manual_seed(1)
    logits, labels, ones = torch.randn(8, 3), torch.randint(0, 3, (8,)), torch.ones(3)
    plain = focal(logits, labels, ones, TrainFold(gamma=0.0))
    assert torch.allclose(plain, functional.cross_entropy(logits, labels))
    both = [focal(logits, labels, ones, TrainFold(focal_p=kind)) for kind in ("textbook", "weighted")]  # type: ignore[arg-type]
    assert torch.allclose(*both)


def test_focal_looks_at_hard_images() -> None:
    easy, hard = torch.tensor([[6.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    label, ones = torch.tensor([0]), torch.ones(2)
    share = [
        (focal(hard, label, ones, TrainFold(gamma=g)) / focal(easy, label, ones, TrainFold(gamma=g))).item()
        for g in (0, 2)
    ]
    assert share[1] > 100 * share[0]


def test_cross_entropy_smooths_labels() -> None:
    logits, label, ones = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0]), torch.ones(3)
    log_p = functional.log_softmax(logits, dim=1)[0]
    expected = -(0.9 * log_p[0] + 0.1 * log_p.mean())
    assert torch.allclose(cross_entropy(logits, label, ones, TrainFold(label_smoothing=0.1)), expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_finite_for_certain_mistakes(recipe: str) -> None:
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    loss = RECIPES[recipe](logits, torch.tensor([1]), torch.ones(2), TrainFold())
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()


# --- imbalance --------------------------------------------------------------------------------------------------------


def test_class_weights_are_the_papers() -> None:
    a = [1 / (math.log(1 + n) + 1e-5) for n in (1000, 100, 10)]
    assert log_factor(COUNTS)[:3] == pytest.approx(a)
    assert class_weights(COUNTS, "log")[:3] == pytest.approx([3 * value / sum(a) for value in a])
    assert class_weights(COUNTS, "log")[:3].mean() == pytest.approx(1)
    assert class_weights(COUNTS, "none").tolist() == [1, 1, 1, 0]


def test_samplers_lift_rare_classes_in_order() -> None:
    shares = [effective_share(COUNTS, kind, "none")[2] for kind in ("none", "log", "sqrt", "balanced")]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(10 / 1110) and shares[3] == pytest.approx(1 / 3)
    assert draw_factor(COUNTS, "balanced")[3] == 0, "a class without images is never drawn"
    both = effective_share(COUNTS, "log", "log")
    assert both[2] > effective_share(COUNTS, "log", "none")[2] and both.sum() == pytest.approx(1)


# --- views and augmentation -------------------------------------------------------------------------------------------


def test_the_eight_views_are_distinct_and_a_group() -> None:
    image = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5)
    views = [view_of(image, view) for view in range(8)]
    assert torch.equal(views[0], image)
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])
    for a in range(8):
        for b in range(8):
            assert sum(torch.equal(view_of(view_of(image, a), b), view) for view in views) == 1
    with pytest.raises(ValueError, match="D4"):
        view_of(image, 8)


def batch(n: int = 4, side: int = 32) -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    image = torch.stack([0.3 + 0.4 * rows, 0.2 + 0.5 * cols, 0.4 + 0.2 * rows * cols])
    return image[None].repeat(n, 1, 1, 1)


def test_parameters_depend_on_seed_epoch_image_and_repeat_alone() -> None:
    base = draw_parameters(["a", "b"], 1, 0, [0, 0])
    assert torch.equal(base[1], draw_parameters(["c", "b"], 1, 0, [0, 0])[1]), "not on the batch"
    for other in (
        draw_parameters(["a"], 2, 0, [0]),
        draw_parameters(["a"], 1, 1, [0]),
        draw_parameters(["a"], 1, 0, [1]),
    ):
        assert not torch.equal(base[0], other[0])


def test_no_augmentation_is_no_change() -> None:
    off = TrainFold(rotation="none", flip=False, scale=0, shift=0, brightness=0, colour=0, contrast=0)
    numbers = draw_parameters(list("abcd"), 1, 0, [0] * 4)
    assert torch.allclose(augment(batch(), numbers, off), batch(), atol=1e-5)


def test_quarter_turns_and_mirrors_are_exact() -> None:
    only = TrainFold(rotation="quarter", flip=True, scale=0, shift=0, brightness=0, colour=0, contrast=0)
    numbers = draw_parameters([str(k) for k in range(16)], 1, 0, [0] * 16)
    image = batch(1)
    views = [view_of(image, view) for view in range(8)]
    seen = set()
    for moved in move(batch(16), numbers, only):
        matches = [k for k, view in enumerate(views) if torch.allclose(moved, view[0], atol=1e-4)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) >= 5


def test_colours_stay_in_range_and_change_per_image() -> None:
    numbers = draw_parameters(list("abcd"), 1, 0, [0] * 4)
    coloured = recolour(batch(), numbers, TrainFold(brightness=0.5, colour=0.5, contrast=0.5))
    assert coloured.min() >= 0 and coloured.max() <= 1
    assert not torch.allclose(coloured[0], coloured[1])


# --- the steps --------------------------------------------------------------------------------------------------------


@pytest.fixture()
def dataset(tmp_path: Path) -> Path:
    """30 training cells of three classes told apart by colour (one class has a single image), 4 test, 1 bad."""
    rng = np.random.default_rng(0)
    labels = ["BA"] * 14 + ["LY"] * 15 + ["PC"]
    colours = {"BA": (200, 60, 60), "LY": (60, 60, 200), "PC": (60, 200, 60)}
    rows = []
    with ShardWriter(tmp_path / "shards", 32) as writer:
        for k in range(34):
            colour = colours[labels[k]] if k < 30 else colours[("BA", "LY")[k % 2]]
            crop = np.clip(np.array(colour) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            shard, row, crc = writer.add(f"{k}", crop, np.full((32, 32), CYTOPLASM, np.uint8))
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    cells = pd.DataFrame(rows).assign(
        restored=False, noise_before=1.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(cells, tmp_path / "cells.parquet")
    images = pd.DataFrame({"image_id": [*cells["image_id"], "bad"], "label": [*labels, None, None, None, None, None]})
    images["role"] = ["train"] * 30 + ["test"] * 4 + ["train"]
    images["status"] = ["ok"] * 34 + ["missing"]
    images = images.assign(path="x", split=None, group=None, width=32, height=32, sha256=None, reason="")
    IMAGES.write(images, tmp_path / "images.parquet")
    folds = pd.DataFrame({"image_id": [str(k) for k in range(30)], "fold": [k % 2 for k in range(30)]})
    FOLDS.write(folds, tmp_path / "folds.parquet")
    classes = pd.DataFrame({"code": ["BA", "LY", "PC"], "name": ["a", "b", "c"], "position": [0, 1, 2]})
    CLASSES.write(classes.assign(images=1, groups=None), tmp_path / "classes.parquet")
    return tmp_path


def inputs(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.parquet" for name in ("images", "classes", "folds", "cells")}


def train(folder: Path, name: str, fold: int = 0, settings: TrainFold = TINY, recipe: str = "focal") -> Path:
    out = folder / name / f"fold_{fold}"
    train_fold(
        **inputs(folder), fold=fold, recipe=recipe, model=out / "model.safetensors", history=out / "history.parquet",
        seed=1, settings=settings,
    )  # fmt: skip
    return out


def predict(folder: Path, out: Path, fold: int, views: int = 8) -> Path:
    predict_fold(
        **inputs(folder), model=out / "model.safetensors", fold=fold, recipe="focal", logits=out / "logits.parquet",
        settings=PredictFold(views=views, batch=7),
    )  # fmt: skip
    return out / "logits.parquet"


@pytest.mark.parametrize("choose", ["last", "best"])
def test_an_interrupted_fold_ends_with_the_same_bytes(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, choose: str
) -> None:
    settings = TINY.model_copy(update={"choose": choose})
    straight = train(dataset, "straight", settings=settings)
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        if len(state["history"]) == 2:  # type: ignore[arg-type]
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "halted", settings=settings)
    assert (dataset / "halted" / "fold_0" / "checkpoint.safetensors").exists()
    monkeypatch.setattr(module.Checkpoint, "save", save)
    halted = train(dataset, "halted", settings=settings)
    assert (halted / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    told = [TRAINING_HISTORY.read(out / "history.parquet").drop(columns="images_per_s") for out in (straight, halted)]
    pd.testing.assert_frame_equal(*told)
    assert not (halted / "checkpoint.safetensors").exists()


def test_other_settings_do_not_continue_the_checkpoint(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "a")
    monkeypatch.setattr(module.Checkpoint, "save", save)
    changed = TINY.model_copy(update={"learning_rate": 1e-3})
    mixed, clean = train(dataset, "a", settings=changed), train(dataset, "b", settings=changed)
    assert (mixed / "model.safetensors").read_bytes() == (clean / "model.safetensors").read_bytes()


def test_a_fold_learns_and_never_sees_what_it_holds_out(dataset: Path) -> None:
    out = train(dataset, "run", settings=TINY.model_copy(update={"epochs": 8}))
    history = TRAINING_HISTORY.read(out / "history.parquet")
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["kept"].tolist() == [False] * 7 + [True]
    # Held-out labels do not reach the weights: with others, the model is the same.
    images = IMAGES.read(dataset / "images.parquet")
    images.loc[images["image_id"] == "0", "label"] = "LY"
    IMAGES.write(images, dataset / "images.parquet")
    again = train(dataset, "again", settings=TINY.model_copy(update={"epochs": 8}))
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_a_class_without_training_images_does_not_stop_a_fold(dataset: Path) -> None:
    # PC has one image (29), held out by fold 1: that fold has none to learn from.
    out = train(dataset, "run", fold=1, settings=TINY.model_copy(update={"class_weights": "log", "sampler": "log"}))
    assert np.isfinite(TRAINING_HISTORY.read(out / "history.parquet")["train_loss"]).all()


def test_divergence_stops_with_the_step_and_a_hint(dataset: Path) -> None:
    wild = TINY.model_copy(update={"learning_rate": 1e30, "clip_norm": 0.0, "epochs": 5})
    with pytest.raises(InputError, match=r"the loss became .* at epoch \d+, step \d+.*learning_rate"):
        train(dataset, "wild", settings=wild)


def test_each_fold_predicts_what_it_held_out_and_what_nobody_learns(dataset: Path) -> None:
    rows = judged_rows(IMAGES.read(dataset / "images.parquet"), FOLDS.read(dataset / "folds.parquet"), 1)
    assert set(rows.loc[rows["out_of_fold"], "image_id"]) == {str(k) for k in range(1, 30, 2)}
    assert set(rows.loc[~rows["out_of_fold"], "image_id"]) == {"30", "31", "32", "33"}


def test_prediction_and_combination_keep_every_row(dataset: Path) -> None:
    paths = [predict(dataset, train(dataset, "run", fold), fold) for fold in (0, 1)]
    logits = LOGITS.read(paths[0])
    assert len(logits) == (15 + 4) * 8 and set(logits["view"]) == set(range(8))
    combine_folds(
        images=dataset / "images.parquet", classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
        logits=paths, probabilities=dataset / "p.parquet", settings=CombineFolds(),
    )  # fmt: skip
    table = PROBABILITIES.read(dataset / "p.parquet")
    assert table["image_id"].tolist() == [str(k) for k in range(34)]
    assert table["source"].tolist() == ["out_of_fold"] * 30 + ["fold_mean"] * 4
    assert np.allclose(table[["BA", "LY", "PC"]].sum(axis=1), 1, atol=1e-12)
    both = pd.concat([LOGITS.read(path) for path in paths])
    one = both[both["image_id"] == "31"][["BA", "LY", "PC"]].to_numpy()
    assert one.shape == (16, 3)
    assert np.allclose(table[table["image_id"] == "31"][["BA", "LY", "PC"]], softmax(one).mean(axis=0))


def test_logits_of_a_fold_that_learned_the_image_are_refused(dataset: Path) -> None:
    path = predict(dataset, train(dataset, "run", 0), 0, views=1)
    stolen = LOGITS.read(path).assign(fold=1)
    LOGITS.write(stolen, path)
    with pytest.raises(InputError, match="a fold that learned it"):
        combine_folds(
            images=dataset / "images.parquet", classes=dataset / "classes.parquet", folds=dataset / "folds.parquet",
            logits=[path], probabilities=dataset / "p.parquet", settings=CombineFolds(),
        )  # fmt: skip


def test_softmax_is_stable_and_means_sum_to_one() -> None:
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])).tolist() == [[1, 0], [0.5, 0.5]]
    frame = pd.DataFrame({"image_id": ["a", "a"], "out_of_fold": [True, True], "BA": [0.0, 2.0], "LY": [0.0, -1.0]})
    mean = mean_probabilities(frame, ["BA", "LY"])
    expected = (0.5 + 1 / (1 + math.exp(-3))) / 2
    assert mean["BA"].item() == pytest.approx(expected) and mean["BA"].item() + mean["LY"].item() == pytest.approx(1)
