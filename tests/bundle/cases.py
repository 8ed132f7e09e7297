"""A bundle made without training: untrained networks of the smallest size, and drawn pictures for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image

from buffycoat.bundle import form
from buffycoat.bundle.pack_bundle import SHIPPED_SEGMENTER, write_into
from buffycoat.bundle.settings import PackBundle
from buffycoat.classify.backbones import build_backbone
from buffycoat.classify.recipes import with_classifier
from buffycoat.classify.settings import PredictFold, TrainFold
from buffycoat.core.files import write_json
from buffycoat.crop.settings import CropCells
from buffycoat.data.tables.index import CLASSES
from buffycoat.embed.settings import EmbedCells, TrainHead
from buffycoat.embed.train_head import Head
from buffycoat.measure.settings import MeasureCells
from buffycoat.nets.weights import write_weights
from buffycoat.partition.scores import LEAST_SPREADS
from buffycoat.refine.rules import Rulebook, write_rulebook
from buffycoat.refine.settings import Rule
from buffycoat.restore.gan import generator_of
from buffycoat.restore.settings import RestoreCells, TrainGan
from buffycoat.review.outliers import Familiar, write_familiar
from buffycoat.review.settings import FindSuspects

CODES = ["LY", "MO", "mine"]
NAMES = {"LY": "lymphocyte", "MO": "monocyte", "mine": "mine"}
DIMENSIONS = 1488
"""Of the embeddings of efficientnet_lite0."""
MIDDLES = {"darkness": 15.0, "whiteness": 3.0, "unevenness": 1.0, "red": 0.0, "blue": 0.0}
USUAL: dict[str, Any] = {
    "images": 100, "diameter_px": 60.0,
    "ranges": {"diameter_px": [30.0, 120.0], "cell_level": [0.0, 255.0], "red_blue_ratio": [0.0, 9.0]},
    "shares": dict.fromkeys(("cell", "scale", "noise", "blur", "light", "colour", "probability"), 0.02),
}  # fmt: skip
SCORES = {"headline": {}, "table": [{"part": "test", "class": "all", "metric": "macro_f1", "value": 0.612, "low": 0.5,
                                     "high": 0.7, "support": 40}]}  # fmt: skip


def cell_picture(path: Path, seed: int = 0, side: int = 160, cells: int = 1, radius: int = 30) -> Path:
    """Draw white cells (a purple nucleus in pale cytoplasm) on light glass with a little noise."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side * cells, 3), (236, 228, 232), np.uint8)
    for k in range(cells):
        middle = (side // 2 + k * side + int(rng.integers(-6, 7)), side // 2 + int(rng.integers(-6, 7)))
        cv2.circle(image, middle, radius, (190, 180, 215), -1, cv2.LINE_AA)
        cv2.circle(image, middle, int(0.65 * radius), (90, 50, 140), -1, cv2.LINE_AA)
    noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(path)
    return path


def _fold_model(path: Path, fold: int, recipe: str, trained: TrainFold) -> None:
    torch.manual_seed(fold)
    network = build_backbone(trained.backbone, trained.backbone_options, None, len(CODES), trained.size_px, empty=True)
    network = with_classifier(network, recipe, len(CODES))
    about = {"classes": CODES, "fold": fold, "recipe": recipe, "settings": trained.model_dump(mode="json")}
    write_weights(network.state_dict(), about, path)


def _heads(path: Path, settings: TrainHead, folds: tuple[int, ...]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for fold in folds:
        torch.manual_seed(fold)
        head = Head(DIMENSIONS, len(CODES), settings).state_dict()
        scaled = {**head, "mean": torch.zeros(DIMENSIONS), "spread": torch.ones(DIMENSIONS)}
        tensors |= {f"fold_{fold}.{name}": tensor for name, tensor in scaled.items()}
    write_weights(tensors, {}, path)


def _rulebook(path: Path, rules: tuple[Rule, ...]) -> None:
    fitted = [{"rule": rule.model_dump(), "state": "on", "reason": "It helps."} for rule in rules]
    content = {"rows": 9, "without_embedding": 0, "unmeasured": 0, "rules": fitted, "by_fold": {}}
    write_rulebook(Rulebook.model_validate(content), path)


def _tables(parts: Path, noise_over: str, noise_level: float, sure_above: float) -> None:
    classes = pd.DataFrame({"code": CODES, "name": list(NAMES.values()), "position": range(3), "images": 9})
    CLASSES.write(classes.assign(groups=None), parts / form.CLASSES)
    usual = {name: {"median": MIDDLES[name], "spread": 3 * least} for name, least in LEAST_SPREADS.items()}
    levels = {"measured_over": noise_over, "level": noise_level, "blur": {"level": 0.999}}
    write_json({**levels, "light": {"level": 1e6, "usual": usual}}, parts / form.THRESHOLD)
    write_json({"temperature": 1.0, "by_fold": {}}, parts / form.CALIBRATION)
    values = np.linspace(-3, 3, 20)
    write_familiar(Familiar({}, values, np.full(20, np.nan), sure_above), parts / form.FAMILIAR)


def small_bundle(
    folder: Path, *, restoration: str = "keep", crop: dict[str, Any] | None = None, rules: tuple[Rule, ...] = (),
    recipe: str = "focal", trained: dict[str, Any] | None = None, gan: dict[str, Any] | None = None,
    embed: dict[str, Any] | None = None, head: dict[str, Any] | None = None, nucleus: str = "carried",
    noise_over: str = "field", noise_level: float = 200.0, sure_above: float = 0.0, **about: Any,
) -> Path:  # fmt: skip
    """Write a whole bundle into `folder`; `about` replaces parts of its manifest."""
    parts = folder.with_name(f"{folder.name}_parts")
    parts.mkdir(parents=True)
    folder.mkdir()
    swin = {"img_size": 32, "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [2, 4, 8], "window_size": 4}
    fold_settings = TrainFold.model_validate({"backbone_options": swin, "size_px": 32, **(trained or {})})
    head_settings = TrainHead.model_validate({"hidden": [16], **(head or {})})
    _tables(parts, noise_over, noise_level, sure_above)
    _heads(parts / form.HEADS, head_settings, (0, 1) if head_settings.cross_fit else (-1,))
    _rulebook(parts / form.RULES, rules)
    for fold in (0, 1):
        _fold_model(parts / form.fold_file(fold), fold, recipe, fold_settings)
    if restoration == "pix2pix":
        settings = TrainGan.model_validate({"depth": 3, "widths": [4, 16], **(gan or {})}).model_dump(mode="json")
        write_weights(generator_of(settings).state_dict(), settings, parts / form.GENERATOR)
    embed_settings = {"encoder": "efficientnet_lite0", "size_px": 32, **(embed or {})}
    chosen = {
        "crop.crop_cells": CropCells.model_validate({"window_px": 128, "size_px": 32, **(crop or {})}),
        "restore.restore_cells": RestoreCells.model_validate({"method": restoration}),
        "classify.predict_fold": PredictFold(views=2),
        "embed.embed_cells": EmbedCells.model_validate(embed_settings),
        "embed.train_head": head_settings,
        "measure.measure_cells": MeasureCells.model_validate({"nucleus": nucleus}),
        "review.find_suspects": FindSuspects(),
    }  # fmt: skip
    content = {
        "format": form.FORMAT, "name": "small", "note": "", "buffycoat": "0", "code": "c", "seed": 1, "recipe": recipe,
        "settings": {key: kind.model_dump(mode="json") for key, kind in chosen.items()},
        "folds": [0, 1], "classes": CODES, "outside": {}, "versions": {}, "usual": USUAL, "scores": SCORES,
        "training": {"images": 9, "groups": None, "classes": {}}, **about,
    }  # fmt: skip
    sources = {path.name: path for path in parts.iterdir()} | {form.SEGMENTER: SHIPPED_SEGMENTER}
    write_into(folder, sources, content, PackBundle())
    return folder
