"""Branch B in figures: parity with `transformers`, images/s of each encoder, seconds of the head, worth on real cells.

    make benchmark-embed
    python -m benchmarks.embed --part gpu    (on a machine with a GPU: only its images/s, added to the same file)

Writes benchmarks/embed.json. Encoders other than the embedded one have random weights: that changes no time. The scores
are on the cells of Acevedo et al. 2020 (Data in Brief 30, 105474), where these are at hand: training cells out of fold,
by folds over images, as that set has no patients.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from torch import nn

from benchmarks.classify_loops import cut_out
from benchmarks.machine import machine
from benchmarks.restore_data import listed_images, write_index
from benchmarks.segmenter_data import DATA
from buffycoat.core.files import read_json, write_json
from buffycoat.core.progress import start_logging
from buffycoat.core.settings import Runtime
from buffycoat.data.images import Pixels
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import CLASSES, FOLDS
from buffycoat.data.tables.restore import CELLS
from buffycoat.embed.embed_cells import Embedder, embed, embed_cells
from buffycoat.embed.encoders import Encoder, load_encoder
from buffycoat.embed.score_baselines import score_baselines
from buffycoat.embed.settings import EmbedCells, TrainHead
from buffycoat.embed.siglip import MEDSIGLIP, SigLIP, load_published, untrained
from buffycoat.embed.train_head import fit_head, train_head

HERE = Path(__file__).parent
SEED = 1
HALF = (0.5, 0.5, 0.5)
FULL_ROWS = 30_828
"""Rows that one of five heads learns from at full size: four fifths of 38,535 labelled images."""


# --- parity -----------------------------------------------------------------------------------------------------------


def parity() -> dict[str, Any] | str:
    """Return the largest difference of unit embeddings from `transformers`' SigLIP on the same random weights."""
    if importlib.util.find_spec("transformers") is None:
        return "not run: transformers is not installed"
    theirs_library: Any = importlib.import_module("transformers")
    shared = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 4}
    image = {**shared, "image_size": 70, "patch_size": 14}
    text = {**shared, "vocab_size": 50, "max_position_embeddings": 16}
    torch.manual_seed(SEED)
    known = {"bos_token_id": 0, "eos_token_id": 1, "projection_size": 64}
    config = theirs_library.SiglipConfig(vision_config=image, text_config={**text, **known})
    theirs: Any = theirs_library.SiglipModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.15)
    found: dict[str, Any] = {"sizes": {"image": image, "text": text}}
    for dtype in (torch.float64, torch.float32):
        theirs = theirs.to(dtype)
        weights = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
        ours: Any = load_published(SigLIP.model_validate({"vision_config": image, "text_config": text}), weights)
        pixels, tokens = torch.randn(8, 3, 70, 70, dtype=dtype), torch.randint(0, 50, (8, 16))
        with torch.inference_mode():
            expected = theirs.get_image_features(pixel_values=pixels).pooler_output
            worded = theirs.get_text_features(input_ids=tokens).pooler_output
            told = {"image": _off(ours.encode_image(pixels), expected), "text": _off(ours.encode_text(tokens), worded)}
            for block in ours.visual.trunk.blocks:
                block.mlp.act = nn.GELU()
            told["image_with_the_other_gelu"] = _off(ours.encode_image(pixels), expected)
        found[str(dtype).removeprefix("torch.")] = told
    return found


def _off(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    unit = nn.functional.normalize
    return float(f"{(unit(ours, dim=1) - unit(theirs, dim=1)).abs().max().item():.2g}")


# --- speed ------------------------------------------------------------------------------------------------------------


class Crops:
    """Random crops in the place of `CellImages`."""

    def __init__(self, number: int, size_px: int) -> None:
        """Draw `number` crops of `size_px`."""
        self.pixels = np.random.default_rng(SEED).integers(0, 256, (number, size_px, size_px, 3), np.uint8)

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.pixels)

    def check(self, place: int) -> None:
        """Nothing to compare with."""

    def crop(self, place: int) -> Pixels:
        """Return one crop."""
        crop: Pixels = self.pixels[place]
        return crop


def random_siglip(sizes: SigLIP = MEDSIGLIP) -> Encoder:
    """Return the image tower of a SigLIP of these sizes, with random weights."""
    tower: Any = untrained(sizes).visual.to_empty(device="cpu")  # type: ignore[union-attr]
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.02)
    return Encoder(tower.eval().requires_grad_(False), HALF, HALF, antialias=False)


def _dinobloom() -> Encoder:
    import timm

    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=224)
    return Encoder(network.eval().requires_grad_(False), HALF, HALF)


def _efficientnet() -> Encoder:
    return load_encoder(EmbedCells(encoder="efficientnet_lite0"))


ENCODERS = {
    "efficientnet_lite0, 128 px": (_efficientnet, 128, 64),
    "efficientnet_lite0, 160 px": (_efficientnet, 160, 64),
    "DinoBloom-S (ViT-S/14), 224 px": (_dinobloom, 224, 16),
    "MedSigLIP, 448 px": (random_siglip, 448, 1),
}
"""How to make an encoder, the side of its images, and how many batches of four a CPU is timed with."""


def rates(gpu: bool) -> dict[str, Any]:
    """Return images/s of `embed`, resizing included, from crops of 224 px in memory; after one batch not timed."""
    found: dict[str, Any] = {}
    for name, (make, size_px, batches) in ENCODERS.items():
        encoder, batch = make(), 64 if gpu else 4
        told = {}
        for bf16 in (False, True):
            settings = EmbedCells(size_px=size_px, background="keep")
            embedder = Embedder(encoder, settings, Runtime(bf16_on_cpu=bf16), batch)
            embed(Crops(batch, 224), embedder)  # type: ignore[arg-type]
            cells = Crops(batch * (32 if gpu else batches), 224)
            started = time.perf_counter()
            embed(cells, embedder)  # type: ignore[arg-type]
            told["bf16" if bf16 or gpu else "float32"] = round(len(cells) / (time.perf_counter() - started), 2)
        found[name] = told
    return found


def head_seconds() -> dict[str, Any]:
    """Return the seconds of one head of the paper's size on as many rows as one of five folds of WBCBench has."""
    rng = np.random.default_rng(SEED)
    vectors = nn.functional.normalize(torch.from_numpy(rng.standard_normal((FULL_ROWS, 1152), np.float32)), dim=1)
    labels = rng.integers(0, 13, FULL_ROWS)
    started = time.perf_counter()
    fit_head(vectors, labels, [f"{k}" for k in range(13)], 0, SEED, TrainHead(epochs=1))
    seconds = time.perf_counter() - started
    return {"rows": FULL_ROWS, "dimensions": 1152, "s_per_epoch": round(seconds, 1), "s_15_epochs": round(15 * seconds)}


# --- real cells -------------------------------------------------------------------------------------------------------


def _tables(folder: Path, size_px: int) -> pd.DataFrame:
    """Write the tables of the real cells, cut out at `size_px`, in five folds; return the images with their labels."""
    listed = listed_images()
    cut_out(pd.DataFrame({"image": listed["path"], "label": listed["label"]}), folder, size_px)
    images = listed.assign(image_id=[str(k) for k in range(len(listed))])
    tests = images["role"] == "test"
    write_index(images.assign(label=images["label"].where(~tests)), folder)
    train = images[~tests]
    division = StratifiedKFold(5, shuffle=True, random_state=SEED).split(train, train["label"])
    fold = np.zeros(len(train), np.int64)
    for number, (_, held_out) in enumerate(division):
        fold[held_out] = number
    FOLDS.write(pd.DataFrame({"image_id": train["image_id"], "fold": fold}), folder / "folds.parquet")
    codes = sorted(set(train["label"]))
    classes = pd.DataFrame({"code": codes, "name": codes, "position": range(len(codes)), "images": 1, "groups": None})
    CLASSES.write(classes, folder / "classes.parquet")
    crops = CROPS.read(folder / "crops.parquet")[["image_id", "shard", "shard_row", "crc32"]]
    CELLS.write(
        crops.assign(restored=False, noise_before=0.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan,
                     reason="clean"),
        folder / "cells.parquet",
    )  # fmt: skip
    return images


def _scores(table: Path, images: pd.DataFrame) -> dict[str, float]:
    """Return macro-F1 out of fold on training cells, and on test cells, whose labels nothing else has seen."""
    frame = PROBABILITIES.read(table).merge(images[["image_id", "label", "role"]], on="image_id")
    codes = sorted(set(images["label"]))
    frame["found"] = frame[codes].idxmax(axis=1)
    found = {}
    for part, rows in frame.groupby("role"):
        score = f1_score(rows["label"], rows["found"], labels=codes, average="macro", zero_division=0)
        found[str(part)] = round(float(score), 3)
    return found


def real_cells(folder: Path, size_px: int) -> dict[str, Any] | str:
    """Return macro-F1 of neighbours and heads on real cells by the embedded encoder, with the seconds of each."""
    if not (DATA / "pbc" / "images.csv").is_file():
        return f"not run: no images.csv of Acevedo et al. 2020 in the folder {DATA.name}"
    images = _tables(folder, size_px)
    shared = {key: folder / f"{key}.parquet" for key in ("images", "labels", "classes", "folds", "embeddings")}
    prompts = folder / "prompts.parquet"
    encoder = EmbedCells(encoder="efficientnet_lite0", size_px=size_px, background="keep")
    found: dict[str, Any] = {"crop_px": size_px, "cells": int(len(images))}
    found["embed_s"] = _timed(
        lambda: embed_cells(
            cells=folder / "cells.parquet", classes=folder / "classes.parquet", embeddings=shared["embeddings"],
            prompts=prompts, settings=encoder,
        )
    )  # fmt: skip
    out = folder / "out.parquet"
    seconds = _timed(lambda: score_baselines(**shared, prompts=prompts, knn=out, baselines=folder / "b.parquet"))
    found["knn, balanced"] = {**_scores(out, images), "s": seconds}
    heads = {
        "default (15 epochs)": TrainHead(),
        "laptop (60 epochs, rate 0.001)": TrainHead(epochs=60, learning_rate=0.001),
        "paper's losses and rates, cross-fitted": TrainHead(standardise=False, sampler="none", noise=0.06),
    }
    for name, settings in heads.items():
        seconds = _timed(
            lambda settings=settings: train_head(
                **shared, heads=folder / "h.safetensors", probabilities=out, history=folder / "history.parquet",
                seed=SEED, settings=settings,
            )
        )  # fmt: skip
        found[f"head, {name}"] = {**_scores(out, images), "s": seconds}
    return found


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 1)


def main(
    part: Annotated[str, typer.Option(help="cpu or gpu")] = "cpu",
    size_px: Annotated[int, typer.Option(help="side of the real cells' crops, as in the preset laptop")] = 160,
    result: Annotated[Path, typer.Option()] = HERE / "embed.json",
) -> None:
    """Measure and put the figures into the result file; the part that is not named keeps its old ones."""
    if part not in ("cpu", "gpu"):
        raise typer.BadParameter(f"no such part: {part}; there are cpu and gpu")
    start_logging()
    figures = read_json(result) if result.exists() else {}
    packages = ("torch", "timm", "open_clip_torch", "scikit-learn")
    versions = {name: importlib.metadata.version(name) for name in packages}
    about = {"machine": machine(), "versions": versions, "torch_threads": torch.get_num_threads()}
    if part == "gpu":
        told: Any = rates(True) if torch.cuda.is_available() else "not run: no GPU"
        figures["gpu"] = {**about, "images_per_s": told} if isinstance(told, dict) else told
    else:
        with tempfile.TemporaryDirectory() as folder:
            cells = real_cells(Path(folder), size_px)
        figures["cpu"] = {
            "command": "make benchmark-embed", **about, "parity": parity(), "images_per_s": rates(False),
            "head": head_seconds(), "real_cells": cells,
        }  # fmt: skip
    write_json(figures, result)


if __name__ == "__main__":
    typer.run(main)
