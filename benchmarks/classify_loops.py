"""The two training loops that benchmarks/classify.py compares, ours and the usual one, and their images."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision.transforms import v2

from benchmarks.segmenter_data import DATA
from buffycoat.classify.backbones import build_backbone
from buffycoat.classify.crops import Crops
from buffycoat.classify.fold_training import FoldTraining
from buffycoat.classify.predict_fold import predict_views
from buffycoat.classify.settings import TrainFold
from buffycoat.core.files import sha256_of
from buffycoat.core.settings import Runtime
from buffycoat.crop.crop_cells import crop_cells
from buffycoat.crop.settings import CropCells
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.images import decode_image
from buffycoat.data.random import stream
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, with_places
from buffycoat.data.tables.restore import CELLS
from buffycoat.nets.device import mixed_precision, pick_device
from buffycoat.nets.pretrained import MEAN, STD
from buffycoat.simulate.painting import draw_field, draw_slide

SEED = 1
WINDOW_PX = 280
"""Side of the window that is cut out, as in the preset laptop; fields are about 360 pixels."""
JPEG_QUALITY = 92
WARM_UP_BATCHES = 2


@dataclass(frozen=True)
class Setting:
    """One network and size that both loops train."""

    backbone: str
    size_px: int
    batch: int
    steps: int
    """Steps of an epoch; one epoch is timed, after one that is not."""
    options: dict[str, Any] = field(default_factory=dict)
    background: str = "keep"

    def train_fold(self) -> TrainFold:
        """Return our settings: the defaults, so with all of our augmentation, averaging and clipping."""
        return TrainFold.model_validate(
            {"backbone": self.backbone, "backbone_options": self.options, "size_px": self.size_px, "epochs": 2,
             "batch": self.batch, "background": self.background}
        )  # fmt: skip


# --- the images -------------------------------------------------------------------------------------------------------


def source_images(folder: Path, number: int) -> pd.DataFrame:
    """Return image (path of a JPEG) and label: real cells where they are at hand, drawn ones otherwise."""
    listed = DATA / "pbc" / "images.csv"
    if listed.is_file():
        rows = pd.read_csv(listed).sample(number, random_state=SEED)
        return pd.DataFrame({"image": [str(DATA / "pbc" / name) for name in rows["image"]], "label": rows["label"]})
    codes = list(CELL_TYPES)
    rng = stream(SEED, "benchmark", "labels")
    # As rare as 1/rank: the peer's sampler and ours have something to do.
    chances = 1 / np.arange(1, len(codes) + 1)
    labels = rng.choice(codes, number, p=chances / chances.sum())
    folder.mkdir(parents=True, exist_ok=True)
    slides = [draw_slide(stream(SEED, "slide", k)) for k in range(number // 7 + 1)]
    paths = [folder / f"{k:05d}.jpg" for k in range(number)]
    for k, path in enumerate(paths):
        pixels = draw_field(str(labels[k]), slides[k // 7], stream(SEED, "field", k))[0]
        Image.fromarray(pixels).save(path, quality=JPEG_QUALITY)
    return pd.DataFrame({"image": [str(path) for path in paths], "label": labels})


def cut_out(source: pd.DataFrame, folder: Path, size_px: int) -> float:
    """Crop all images as the workflow does before it trains, into `folder`; return the seconds that took."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = [decode_image(Path(path)).shape for path in source["image"]]
    images = pd.DataFrame(
        {"image_id": [str(k) for k in range(len(source))], "path": source["image"],
         "role": "train", "split": "train", "width": [shape[1] for shape in shapes],
         "height": [shape[0] for shape in shapes], "sha256": [sha256_of(Path(path)) for path in source["image"]],
         "status": "ok", "reason": ""}
    )  # fmt: skip
    IMAGES.write(with_places(images), folder / "images.parquet")
    started = time.perf_counter()
    crop_cells(
        images=folder / "images.parquet", crops=folder / "crops.parquet", shards=folder / "shards",
        settings=CropCells(method="embedded", window_px=WINDOW_PX, size_px=size_px),
    )  # fmt: skip
    return time.perf_counter() - started


def listed_cells(source: pd.DataFrame, folder: Path, number: int) -> tuple[pd.DataFrame, np.ndarray, int]:
    """Write cells.parquet of `number` images, listing all again and again; return the rows, labels and classes."""
    crops = CROPS.read(folder / "crops.parquet").set_index("image_id").loc[[str(k) for k in range(len(source))]]
    taken = np.arange(number) % len(source)
    cells = crops.iloc[taken][["shard", "shard_row", "crc32"]].reset_index(drop=True)
    cells.insert(0, "image_id", [f"{k}" for k in range(number)])
    cells = cells.assign(
        restored=False, noise_before=0.0, noise_after=np.nan, nucleus_change=np.nan, cell_change=np.nan, reason="clean"
    )
    CELLS.write(cells, folder / "cells.parquet")
    codes = sorted(set(source["label"]))
    labels = np.array([codes.index(label) for label in source["label"]], np.int64)[taken]
    return source.iloc[taken].reset_index(drop=True), labels, len(codes)


# --- measuring --------------------------------------------------------------------------------------------------------


def _hide_gpus(hidden: bool) -> None:
    if hidden:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def apart(gpu: bool, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return work(*arguments) of a fresh process, so that no loop profits from what another has set or cached."""
    with ProcessPoolExecutor(1, get_context("spawn"), _hide_gpus, (not gpu,)) as pool:
        return pool.submit(work, *arguments).result()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> dict[str, int]:
    if device.type == "cuda":
        return {"gpu_mib": torch.cuda.max_memory_allocated(device) // 2**20}
    return {"rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10}


def our_rate(folder: Path, setting: Setting, labels: np.ndarray, classes: int) -> dict[str, Any]:
    """Return images/s of one epoch of our loop, the share of it spent waiting for batches, and memory.

    All that the benchmark knows of `FoldTraining` stands here.
    """
    device = pick_device()
    settings = setting.train_fold()
    crops = Crops.read(folder / "cells.parquet", settings.background, settings.size_px, device)
    ids = [str(k) for k in range(setting.steps * setting.batch)]
    crops.make_resident([crops.places[name] for name in ids])
    training = FoldTraining(crops, ids, labels[: len(ids)], classes, "cross_entropy", SEED, settings)
    training.run_epoch(0)
    _finish(device)
    waited, started = getattr(training, "waited_s", None), time.perf_counter()
    training.run_epoch(1)
    _finish(device)
    elapsed = time.perf_counter() - started
    share = None if waited is None else (cast(Any, training).waited_s - waited) / elapsed
    return {"images_per_s": len(ids) / elapsed, "waiting_share": share, **_memory(device)}


class Files(Dataset[tuple[Tensor, int]]):
    """Image files, decoded and transformed one by one."""

    def __init__(self, paths: list[str], labels: np.ndarray, size_px: int) -> None:
        """Prepare the transforms that such scripts have."""
        self.paths, self.labels = paths, labels.tolist()
        self.transform = v2.Compose(
            [v2.Resize((size_px, size_px)), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.RandomRotation(90),
             v2.ColorJitter(0.1, 0.1, 0.1), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
             v2.Normalize(MEAN, STD)]
        )  # fmt: skip

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """Return one image (3, S, S) and its label."""
        with Image.open(self.paths[place]) as file:
            return self.transform(file.convert("RGB")), self.labels[place]


def _plain_epoch(
    model: nn.Module, loader: DataLoader[Any], optimiser: torch.optim.Optimizer, device: torch.device,
    form: torch.memory_format,
) -> None:  # fmt: skip
    model.train()
    for images, labels in loader:
        images = images.to(device, non_blocking=True, memory_format=form)
        labels = labels.to(device, non_blocking=True)
        optimiser.zero_grad(set_to_none=True)
        with mixed_precision(device):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()


def plain_rate(
    paths: list[str], setting: Setting, labels: np.ndarray, classes: int, workers: int, channels_last: bool
) -> dict[str, Any]:
    """Return images/s of one epoch of the usual loop: a DataLoader that decodes, PIL, torchvision v2, AdamW.

    It shares with ours the model, precision, batch and weighted draws; its workers outlive the epoch, and it looks at
    no loss while it runs. It is not compiled, as such scripts are not; `channels_last` is the memory format of ours.
    """
    form = torch.channels_last if channels_last else torch.contiguous_format
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    number = setting.steps * setting.batch
    paths, labels = paths[:number], labels[:number]
    chances = 1 / np.sqrt(np.bincount(labels, minlength=classes).clip(1))[labels]
    loader = DataLoader(
        Files(paths, labels, setting.size_px), setting.batch, drop_last=True, num_workers=workers,
        sampler=WeightedRandomSampler(chances.tolist(), number), pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )  # fmt: skip
    torch.manual_seed(SEED)
    model: Any = timm.create_model(setting.backbone, num_classes=classes, **setting.options)
    model = model.to(device, memory_format=form)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
    _plain_epoch(model, loader, optimiser, device, form)
    _finish(device)
    started = time.perf_counter()
    _plain_epoch(model, loader, optimiser, device, form)
    _finish(device)
    return {"images_per_s": number / (time.perf_counter() - started), "workers": workers, **_memory(device)}


def predict_rates(folder: Path, setting: Setting, classes: int, batch: int, batches: int, repeats: int) -> Any:
    """Return images/s (views count as images) of `predict_views`, compiled and not, turn by turn."""
    device = pick_device()
    trained = setting.train_fold()
    crops = Crops.read(folder / "cells.parquet", trained.background, trained.size_px, device)
    positions = list(range(batch * batches))
    work: dict[str, Callable[[list[int]], Any]] = {}
    found: dict[str, Any] = {"rates": {}, "first_call_s": {}}
    machines = {"as_it_is": Runtime(compile="never"), "compiled": Runtime(compile="always")}
    for name, runtime in machines.items():
        network = build_backbone(setting.backbone, setting.options, None, classes).eval()
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

        predict = partial(predict_views, network, crops, views=8, runtime=runtime, batch=batch)
        started = time.perf_counter()
        predict(positions[: WARM_UP_BATCHES * batch])
        found["first_call_s"][name] = round(time.perf_counter() - started, 1)
        work[name] = predict
        found["rates"][name] = []
    for _ in range(repeats):
        for name, timed in work.items():
            started = time.perf_counter()
            timed(positions)
            found["rates"][name].append(len(positions) * 8 / (time.perf_counter() - started))
    return {**found, **_memory(device)}
