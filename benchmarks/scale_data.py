"""Data sets of any size for benchmarks/scale.py: drawn smears, most varied, and what networks might have said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from buffycoat.core.files import whole_folder
from buffycoat.data.gather_portions import ALL
from buffycoat.data.random import stream
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES, TRAINING_HISTORY
from buffycoat.data.tables.embed import EMBEDDINGS, PROMPTS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, TEST_LABELS, class_codes, decodable
from buffycoat.simulate.draw_smears import FOLDERS, draw_smears, plan_dataset, write_lists
from buffycoat.simulate.settings import DrawSmears

SEED = 1
PATIENTS = 493
DRAWN = DrawSmears(images=3000, patients=120)
"""Fields that are drawn; every other image is one of them, shifted and lit otherwise."""
FARTHEST_SHIFT_PX, MOST_LIGHT, JPEG_QUALITY = 12, 0.06, 92
VIEWS = 8
WIDTH = 1152
"""Length of an embedding: that of MedSigLIP."""
RIGHT, RARE_RIGHT, MARGIN = 0.9, 0.5, 4.0
"""How often a stand-in for a network means the true class, and the rarest ones, and how sure it is, in logits."""
MISTAKEN_FOR = {"PC": "LY", "PLY": "LY", "BNE": "SNE"}


def draw_once(folder: Path) -> pd.DataFrame:
    """Draw the fields that all sizes share, unless they are there; return their list with each file."""
    if not folder.exists():
        draw_smears(smears=folder, seed=SEED, threads=2, settings=DRAWN)
    cells = pd.read_csv(folder / "truth" / "cells.csv", dtype={"ID": str}, keep_default_na=False)
    files = [folder / FOLDERS[part] / name for part, name in zip(cells["part"], cells["ID"], strict=True)]
    return cells.assign(file=files)


def varied(image: np.ndarray, name: str) -> np.ndarray:
    """Return an image shifted by some pixels and lit otherwise, by a random stream of its own."""
    rng = stream(SEED, "variant", name)
    moved = np.eye(2, 3, dtype=np.float32)
    moved[:, 2] = rng.uniform(-FARTHEST_SHIFT_PX, FARTHEST_SHIFT_PX, 2)
    light = 1 + rng.uniform(-MOST_LIGHT, MOST_LIGHT)
    shifted = cv2.warpAffine(image, moved, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.convertScaleAbs(shifted, alpha=light), np.uint8)


def origins(plan: pd.DataFrame, drawn: pd.DataFrame) -> list[Path]:
    """Return the drawn file of each planned image: of its class, and of its degradation where there is such a one."""
    files = dict(zip(drawn.index, drawn["file"], strict=True))
    exact = drawn.groupby(["label", "kind", "severity"]).groups
    alike = drawn.groupby("label").groups
    found = [
        exact.get(key, alike[key[0]]) for key in plan[["label", "kind", "severity"]].itertuples(index=False, name=None)
    ]
    return [files[rows[k % len(rows)]] for k, rows in enumerate(found)]


def write_images(images: int, drawn: pd.DataFrame, folder: Path) -> None:
    """Write a data set of `images` variants in the layout of WBCBench, its classes and patients in proportion."""
    plan = plan_dataset(images, max(16, round(PATIENTS * images / 55_012)), 10, SEED)
    # The least counts of rare classes come on top: the commonest class gives way.
    surplus = max(0, len(plan) - images)
    often = plan.index[(plan["part"] == "train") & (plan["label"] == "SNE")]
    plan = plan.drop(index=often[:surplus]).reset_index(drop=True)
    with whole_folder(folder) as partial:
        for name in (*FOLDERS.values(), "truth"):
            (partial / name).mkdir(parents=True)

        def write(part: str, name: str, source: Path) -> None:
            image = varied(np.asarray(cv2.imread(str(source))), name)
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            (partial / FOLDERS[part] / name).write_bytes(data.tobytes())

        cv2.setNumThreads(1)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, plan["part"], plan["ID"], origins(plan, drawn)))
        write_lists(plan, partial)


def meant(labels: pd.Series, codes: list[str], name: str) -> np.ndarray:
    """Return logits (n, K) of a network that is right as often as RIGHT says; rare classes pass for their likeness."""
    rng = stream(SEED, "stand-in", name)
    right = rng.random(len(labels)) < np.where(labels.isin(MISTAKEN_FOR), RARE_RIGHT, RIGHT)
    mistaken = labels.map(MISTAKEN_FOR).fillna(pd.Series(rng.choice(codes, len(labels)), index=labels.index))
    said = labels.where(right, mistaken).map({code: k for k, code in enumerate(codes)}).to_numpy(int)
    logits = rng.normal(0, 1, (len(labels), len(codes)))
    logits[np.arange(len(labels)), said] += MARGIN
    return logits


def write_logits(rows: pd.DataFrame, codes: list[str], folder: Path) -> None:
    """Write logits and a history per fold: its own images and those of no fold, in every view."""
    for fold in sorted(rows["fold"].dropna().unique().astype(int)):
        judged = rows[(rows["fold"] == fold) | rows["fold"].isna()]
        values = meant(judged["true"], codes, f"fold {fold}")
        noise = stream(SEED, "views", str(fold)).normal(0, 0.3, (len(judged), VIEWS, len(codes)))
        frame = pd.DataFrame((values[:, None] + noise).reshape(-1, len(codes)).astype(np.float32), columns=codes)
        frame.insert(0, "image_id", np.repeat(judged["image_id"].to_numpy(object), VIEWS))
        frame.insert(1, "view", np.tile(np.arange(VIEWS), len(judged)))
        frame.insert(2, "fold", fold)
        frame.insert(3, "out_of_fold", np.repeat(judged["fold"].notna().to_numpy(), VIEWS))
        LOGITS.write(frame, folder / f"fold_{fold}" / "logits.parquet")
        history = pd.DataFrame({"fold": fold, "epoch": range(1, 6), "train_loss": 1.0, "held_out_loss": 1.0})
        history = history.assign(held_out_macro_f1=0.5, images_per_s=1.0, kept=history["epoch"] == 5)
        TRAINING_HISTORY.write(history, folder / f"fold_{fold}" / "history.parquet")


def write_branch_b(rows: pd.DataFrame, codes: list[str], folder: Path) -> None:
    """Write embeddings around a centre per class and prompts, as one portion, and probabilities of a head."""
    portion = folder / "portions" / ALL
    rng = stream(SEED, "embeddings")
    centres = rng.normal(0, 1, (len(codes), WIDTH)).astype(np.float32)
    places = rows["true"].map({code: k for k, code in enumerate(codes)}).to_numpy(int)
    vectors = centres[places] + 2 * rng.standard_normal((len(rows), WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    EMBEDDINGS.write(
        pd.DataFrame({"image_id": rows["image_id"], "embedding": list(vectors)}), portion / "embeddings.parquet"
    )
    texts = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    PROMPTS.write(pd.DataFrame({"code": codes, "prompt": codes, "embedding": list(texts)}), portion / "prompts.parquet")
    logits = meant(rows["true"], codes, "branch B")
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    table = pd.DataFrame(chances / chances.sum(axis=1, keepdims=True), columns=codes)
    table.insert(0, "image_id", rows["image_id"].to_numpy(object))
    table.insert(1, "source", np.where(rows["fold"].notna(), "out_of_fold", "fold_mean"))
    PROBABILITIES.write(table, folder / "probabilities.parquet")


def write_stand_ins(results: Path, classified: str) -> None:
    """Write what the stages classify and embed would have made, in the right shape, with classes that are learnable.

    `classified` is the folder of the recipe's folds below `results`.
    """
    codes = class_codes(CLASSES.read(results / "1_index" / "classes.parquet"))
    images = decodable(IMAGES.read(results / "1_index" / "images.parquet"))
    tested = TEST_LABELS.read(results / "1_index" / "test_labels.parquet").set_index("image_id")["label"]
    labels = LABELS.read(results / "1_index" / "labels.parquet")[["image_id", "label"]]
    rows = (
        images[["image_id"]]
        .merge(labels, on="image_id")
        .merge(FOLDS.read(results / "1_index" / "folds.parquet"), on="image_id", how="left")
    )
    rows["true"] = rows["label"].fillna(rows["image_id"].map(tested))
    write_logits(rows, codes, results / classified)
    write_branch_b(rows, codes, results / "6_embed")
