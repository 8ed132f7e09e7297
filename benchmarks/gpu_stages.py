"""What benchmarks/gpu.py measures, stage by stage: each function runs the project's own code and returns its rates.

Weights are random where the published ones would have to be fetched: that changes no time but that of Cellpose's masks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.classify_loops import SEED, Setting, listed_cells, our_rate
from benchmarks.embed import Crops as RandomCrops
from benchmarks.embed import random_siglip
from benchmarks.restore_data import write_index
from benchmarks.restore_gpu import measure
from buffycoat.classify.backbones import build_backbone
from buffycoat.classify.crops import Crops
from buffycoat.classify.predict_fold import predict_views
from buffycoat.core.files import sha256_of
from buffycoat.crop.cellpose_method import CELLPOSE_PX, flows_of, load_model, normalised, reduced
from buffycoat.crop.cellpose_weights import build_network
from buffycoat.crop.crop_cells import CROP_BATCH, Means, Segmenter, crop_cells, load_segmenter, one_ahead
from buffycoat.crop.framing import frame_cell
from buffycoat.crop.segmenter import SIDE_PX, load_network, predict_maps
from buffycoat.crop.settings import CropCells
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.images import Pixels, decode_image
from buffycoat.data.labels import labelled
from buffycoat.data.random import stream
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.embed.embed_cells import Embedder, embed
from buffycoat.embed.settings import EmbedCells
from buffycoat.embed.siglip import MEDSIGLIP, SigLIP
from buffycoat.nets.device import mixed_precision, pick_device
from buffycoat.nets.weights import write_weights
from buffycoat.restore.settings import TrainGan
from buffycoat.simulate.painting import draw_field, draw_slide

SWIN = "swin_tiny_patch4_window7_224"
JPEG_QUALITY = 92
VIEWS = 8
"""Views of a cell that branch A predicts."""


@dataclass(frozen=True)
class Size:
    """How large everything is; the defaults are those of the preset wbcbench."""

    drawn: int = 256
    """Different images; they are listed again and again where more are needed."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    crop_px: int = 224
    gan: TrainGan = field(default_factory=lambda: TrainGan(depth=5, widths=(64, 64), batch=32))
    gan_times: int = 50
    swin: dict[str, Any] = field(default_factory=dict)
    train_batch: int = 128
    train_steps: int = 80
    predict_batch: int = 256
    siglip: SigLIP = field(default_factory=lambda: MEDSIGLIP)
    embed_batch: int = 64
    small_cellpose: bool = False
    cellpose_tiles: int = 64
    least_calls: int = 3
    patience: float = 1.0
    """Share of a stage's seconds that its repetitions take; with 0 there are `least_calls` of them."""
    probe: int = 8192
    """Side of the matrices that are multiplied to see what the device can do."""


def _tiny() -> Size:
    swin = {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4]}
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    image = {**tower, "image_size": 56, "patch_size": 14}
    siglip = SigLIP.model_validate({"vision_config": image, "text_config": tower})
    gan = TrainGan(depth=3, widths=(4, 4), batch=2, lambda_features=0.0)
    return Size(
        drawn=6, threads=1, crop_px=32, gan=gan, gan_times=1, swin=swin, train_batch=4, train_steps=2, predict_batch=4,
        siglip=siglip, embed_batch=2, small_cellpose=True, cellpose_tiles=2, least_calls=1, patience=0.0,
        probe=128,
    )  # fmt: skip


FULL, TINY = Size(), _tiny()


def flop_of(work: Callable[[], Any]) -> int:
    """Return the floating-point operations of one call, a multiply-add counted as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def synchronise() -> None:
    """Wait until the GPU has done what it was told, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def per_second(work: Callable[[], int], seconds: float, least_calls: int) -> float:
    """Return what `work` does per second (it returns how much it did); called once before the clock starts."""
    work()
    synchronise()
    done, calls, started = 0, 0, time.perf_counter()
    while calls < least_calls or time.perf_counter() - started < seconds:
        done += work()
        calls += 1
        synchronise()
    return done / (time.perf_counter() - started)


def rate(what: str, unit: str, per_s: float, flop_per_unit: int | None = None) -> dict[str, Any]:
    """Return one line of the result."""
    return {"what": what, "unit": unit, "per_s": float(f"{per_s:.5g}"), "flop_per_unit": flop_per_unit}


def probe(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return what the device does at best: bfloat16 products of square matrices, and bytes read and written."""
    device = pick_device()
    a, b = (torch.randn(size.probe, size.probe, device=device, dtype=torch.bfloat16) for _ in range(2))
    flop = 2 * size.probe**3
    source = torch.zeros(16 * size.probe**2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def product() -> int:
        torch.matmul(a, b)
        return flop

    def copy() -> int:
        target.copy_(source)
        return 2 * source.numel()

    half = seconds / 2
    return [
        rate("bf16 matrix product", "FLOP", per_second(product, half, size.least_calls)),
        rate("copy", "bytes", per_second(copy, half, size.least_calls)),
    ]


# --- crop -------------------------------------------------------------------------------------------------------------


def draw_images(size: Size, folder: Path) -> None:
    """Write the drawn images as JPEG files, and the table that lists them."""
    (folder / "fields").mkdir()
    codes, slides, rows = list(CELL_TYPES), [draw_slide(stream(SEED, "slide", k)) for k in range(8)], []
    for k in range(size.drawn):
        code = codes[k % len(codes)]
        pixels = draw_field(code, slides[k % len(slides)], stream(SEED, "field", k))[0]
        path = folder / "fields" / f"{k:05d}.jpg"
        Image.fromarray(pixels).save(path, quality=JPEG_QUALITY)
        sizes = {"height": len(pixels), "width": len(pixels)}
        rows.append({"image_id": str(k), "path": str(path), "label": code, "sha256": sha256_of(path), **sizes})
    frame = pd.DataFrame(rows).assign(role="train", split="train", group=None, status="ok", reason="")
    write_index(frame, folder)


def _framed(segment: Segmenter, pool: ThreadPoolExecutor, paths: list[Path], settings: CropCells) -> int:
    """Decode, segment and frame as the step does, and return how many; the method is ready, so loading is not timed."""

    def begun() -> Iterator[tuple[list[Pixels], Iterable[tuple[Pixels, int]]]]:
        for start in range(0, len(paths), CROP_BATCH):
            images = list(pool.map(decode_image, paths[start : start + CROP_BATCH]))
            yield images, segment(images)

    done = 0
    for images, found in one_ahead(begun()):
        for image, (mask, cells) in zip(images, found, strict=True):
            frame_cell(image, mask, cells, settings.window_px, settings.size_px)
            done += 1
    return done


def crop_embedded(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rates of decoding, and of decoding, segmenting and framing; leaves the crops for later stages."""
    draw_images(size, folder)
    settings = CropCells(method="embedded", size_px=size.crop_px)
    crop_cells(
        images=folder / "images.parquet", crops=folder / "crops.parquet", shards=folder / "shards",
        threads=size.threads, settings=settings,
    )  # fmt: skip
    paths = [Path(path) for path in IMAGES.read(folder / "images.parquet")["path"]]
    device = pick_device()
    network = load_network().to(device)
    view = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
    # Each image is seen twice at least: as a whole, and as a close-up.
    flop = 2 * flop_of(lambda: predict_maps(network, [view]))
    with ThreadPoolExecutor(size.threads) as pool:
        decoded = per_second(lambda: len(list(pool.map(decode_image, paths))), seconds / 4, size.least_calls)
        segment = load_segmenter(settings, Means(pool, size.threads, None))
        whole = per_second(partial(_framed, segment, pool, paths, settings), seconds, size.least_calls)
    return [rate("decode", "images", decoded), rate("decode, segment, frame", "images", whole, flop)]


def small_encoder() -> AbstractContextManager[Any]:
    """Let Cellpose build its network with an encoder of two small blocks instead of 24 large ones."""
    from cellpose import vit
    from segment_anything.modeling import ImageEncoderViT  # type: ignore[import-untyped]

    encoder = partial(
        ImageEncoderViT, img_size=1024, patch_size=16, embed_dim=48, depth=2, num_heads=2, out_chans=32,
        use_rel_pos=True, window_size=14, global_attn_indexes=(1,), norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    entry = {"vit_l": lambda _: SimpleNamespace(image_encoder=encoder())}
    context: AbstractContextManager[Any] = patch.dict(vit.sam_model_registry, entry)
    return context


def crop_cellpose(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rates of Cellpose-SAM's network alone, and of the whole method with masks of its random answers."""
    tiles = patch("buffycoat.crop.cellpose_method.CELLPOSE_TILES", size.cellpose_tiles)
    with small_encoder() if size.small_cellpose else nullcontext(), tiles:
        torch.manual_seed(SEED)
        weights = folder / "cellpose.safetensors"
        write_weights(build_network().state_dict(), {}, weights)
        settings = CropCells(method="cellpose", weights=str(weights), size_px=size.crop_px)
        paths = [Path(path) for path in IMAGES.read(folder / "images.parquet")["path"][: 2 * size.cellpose_tiles]]
        with ThreadPoolExecutor(size.threads) as pool:
            model = load_model(settings, pool, 1)
            one_batch = paths[: size.cellpose_tiles]
            images = np.stack([normalised(reduced(decode_image(path), CELLPOSE_PX)) for path in one_batch])
            flop = flop_of(lambda: flows_of(model, images[:1]))
            network = per_second(lambda: len(flows_of(model, images)), seconds / 2, size.least_calls)
            segment = load_segmenter(settings, Means(pool, size.threads, None))
            whole = per_second(partial(_framed, segment, pool, paths, settings), seconds / 2, 1)
    return [rate("network", "images", network, flop), rate("whole method", "images", whole, flop)]


# --- restore ----------------------------------------------------------------------------------------------------------


def restore(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rates of Pix2Pix: training with pairs made on the fly, training alone, restoring."""
    told = measure(size.gan, pick_device(), size.crop_px, size.gan_times)
    step, image = told["flop_per_step"], told["flop_per_restored_image"]
    return [
        rate("training, pairs made meanwhile", "steps", told["steps_per_s_with_pairs_made"], step),
        rate("training, networks alone", "steps", told["steps_per_s_networks_alone"], step),
        rate("restoring", "images", told["restored_images_per_s"], image),
    ]


# --- classify ---------------------------------------------------------------------------------------------------------


def _cells(size: Size, folder: Path, number: int) -> tuple[np.ndarray, int]:
    rows = labelled(IMAGES.read(folder / "images.parquet"), LABELS.read(folder / "labels.parquet"))
    rows = rows.rename(columns={"path": "image"})
    _, labels, classes = listed_cells(rows[["image", "label"]], folder, number)
    return labels, classes


def _flop_of_swin(size: Size, backward: bool) -> int:
    network = build_backbone(SWIN, size.swin, None, len(CELL_TYPES))
    images = torch.zeros(1, 3, size.crop_px, size.crop_px)
    return flop_of(lambda: network(images).sum().backward() if backward else network(images))


def classify_train(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rate of the second epoch of our loop, so without the compilation of the first."""
    setting = Setting(SWIN, size.crop_px, size.train_batch, size.train_steps, size.swin, background="white")
    labels, classes = _cells(size, folder, size.train_steps * size.train_batch)
    flop = _flop_of_swin(size, backward=True)
    told = our_rate(folder, setting, labels, classes)
    return [rate("training", "images", told["images_per_s"], flop)]


def classify_predict(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rate of prediction in eight views, each of which counts."""
    _, classes = _cells(size, folder, 2 * size.predict_batch)
    crops = Crops.read(folder / "cells.parquet", "white", size.crop_px, pick_device())
    network = build_backbone(SWIN, size.swin, None, classes).eval()
    network = network.to(crops.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    positions = list(range(2 * size.predict_batch))

    def work() -> int:
        return VIEWS * len(predict_views(network, crops, positions, VIEWS, batch=size.predict_batch))

    return [rate("prediction", "views", per_second(work, seconds, size.least_calls), _flop_of_swin(size, False))]


# --- embed ------------------------------------------------------------------------------------------------------------


def embed_siglip(size: Size, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return the rate of MedSigLIP's image tower, resizing included."""
    encoder = random_siglip(size.siglip)
    side = size.siglip.vision_config.image_size
    device = pick_device()
    encoder.network.to(device)
    with torch.inference_mode(), mixed_precision(device):
        flop = flop_of(lambda: encoder.network(torch.zeros(1, 3, side, side, device=device)))
    embedder = Embedder(encoder, EmbedCells(size_px=side, background="keep"), batch=size.embed_batch)
    cells: Any = RandomCrops(4 * size.embed_batch, size.crop_px)
    per_s = per_second(lambda: len(embed(cells, embedder)), seconds, size.least_calls)
    return [rate("embedding", "images", per_s, flop)]
