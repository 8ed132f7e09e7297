"""Networks to stand in Cellpose's place: one that knows the true flows of drawn cells, one that reads colours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from cellpose.dynamics import masks_to_flows_gpu
from cellpose.models import CellposeModel

from buffycoat.crop.cellpose_method import Cellpose
from buffycoat.data.images import Pixels

Labels = npt.NDArray[np.int32]


def drawn_labels(height: int, width: int, seed: int, cells: int = 9, radii: tuple[int, int] = (9, 30)) -> Labels:
    """Ellipses that neither touch each other nor the border, numbered 1..n without a gap."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for _ in range(cells * 20):
        axes = rng.integers(*radii, size=2)
        centre = [rng.integers(radii[1] + 2, side - radii[1] - 2) for side in (width, height)]
        cell = np.zeros((height, width), np.uint8)
        cv2.ellipse(cell, [int(x) for x in centre], [int(x) for x in axes], int(rng.integers(180)), 0, 360, 1, -1)
        if not labels[cv2.dilate(cell, np.ones((5, 5), np.uint8)) > 0].any():
            labels[cell > 0] = labels.max() + 1
        if labels.max() == cells:
            break
    return labels


def flows_and_logit(labels: Labels) -> npt.NDArray[np.float32]:
    """What a perfect network says of these cells: (3, H, W)."""
    flows = masks_to_flows_gpu(labels)[0]
    return np.concatenate([5 * flows, np.where(labels > 0, 5.0, -5.0)[None]]).astype(np.float32)


class Stub(torch.nn.Module):
    """What Cellpose asks of a network; remembers its batches and runs out of memory above `fail_above` tiles."""

    def __init__(self, fail_above: int = 10**9) -> None:
        super().__init__()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.fail_above = fail_above
        self.batches: list[int] = []

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(tiles))
        if len(tiles) > self.fail_above:
            raise torch.cuda.OutOfMemoryError("stub")
        answers = np.stack([self.answer(tile) for tile in tiles.numpy()])
        return torch.from_numpy(answers), torch.zeros(len(tiles), 256)

    def answer(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        raise NotImplementedError


class TrueFlows(Stub):
    """Answers each pixel of an image that `draw` made with the true flow there, wherever the tile was cut.

    The image's colours say where a pixel is: half its row, half its column, and in the third channel the parities,
    one level of which carries the image's number. The percentiles of that channel are 0 and 255, so the number
    survives Cellpose's normalisation; those of the others are looked up.
    """

    def __init__(self, fail_above: int = 10**9) -> None:
        super().__init__(fail_above)
        self.flows: list[npt.NDArray[np.float32]] = []
        self.levels: list[npt.NDArray[np.float32]] = []

    def draw(self, labels: Labels, wrong: tuple[int, ...] = ()) -> Pixels:
        """Return the image of these cells, at most 512 px; the flows of those in `wrong` are turned by 90 degrees."""
        rows, cols = np.indices(labels.shape)
        known = flows_and_logit(labels)
        turned = np.isin(labels, wrong)
        known[0, turned], known[1, turned] = -known[1, turned], known[0, turned]
        parity = rows % 2 * 2 + cols % 2
        level = np.array([0, 10 + len(self.flows), 200, 255])[parity]
        image = np.stack([rows // 2, cols // 2, level], axis=-1).astype(np.uint8)
        self.flows.append(known)
        self.levels.append(np.percentile(image[..., :2].astype(np.float32), [1, 99], axis=(0, 1)).astype(np.float32))
        return image

    def answer(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        level = np.rint(tile[2] * 255).astype(int)
        parity = np.select([level < 5, level == 200, level == 255], [0, 2, 3], 1)
        (number,) = set((level[parity == 1] - 10).tolist())
        low, high = self.levels[number]
        half = tile[:2] * (high - low)[:, None, None] + low[:, None, None]
        known = self.flows[number]
        rows = np.clip(np.rint(half[0]).astype(int) * 2 + parity // 2, 0, known.shape[1] - 1)
        cols = np.clip(np.rint(half[1]).astype(int) * 2 + parity % 2, 0, known.shape[2] - 1)
        return known[:, rows, cols]


class ByColour(Stub):
    """Takes everything that is not glass for a cell; only for images of one tile."""

    def answer(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # Padding is 0 in every channel.
        cells = ((tile.min(axis=0) < 0.85) & (np.abs(tile).max(axis=0) > 0)).astype(np.uint8)
        return flows_and_logit(np.asarray(cv2.connectedComponents(cells)[1], np.int32))


def in_threads(network: Any, tiles: int = 64) -> Cellpose:
    """Our method with this network, without other processes."""
    pool = ThreadPoolExecutor(1)
    return Cellpose(network, tiles, pool, pool)


def cellpose_itself(network: Any) -> CellposeModel:
    """Cellpose's own model with this network in place of the one it would read from a file."""
    model = object.__new__(CellposeModel)
    model.net, model.device, model.gpu, model.backbone = network, torch.device("cpu"), False, "sam_vitl"
    return model


def same_cells(found: npt.NDArray[np.integer], truth: Labels) -> bool:
    """Whether two label images hold the same cells, whatever their numbers."""
    pairs = np.unique(np.stack([found.ravel(), truth.ravel()]), axis=1).T
    return len(pairs) == len(np.unique(truth)) == len(np.unique(found)) and [0, 0] in pairs.tolist()


def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Cellpose build its network with an encoder of two small blocks instead of 24 large ones."""
    from cellpose import vit
    from segment_anything.modeling import ImageEncoderViT  # type: ignore[import-untyped]

    def registered(_: None) -> SimpleNamespace:
        encoder = ImageEncoderViT(
            img_size=1024, patch_size=16, embed_dim=48, depth=2, num_heads=2, out_chans=32, use_rel_pos=True,
            window_size=14, global_attn_indexes=(1,), norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        return SimpleNamespace(image_encoder=encoder)

    monkeypatch.setitem(vit.sam_model_registry, "vit_l", registered)
