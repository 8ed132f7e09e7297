"""Segmentation by the embedded network, in two passes: find the white cells, then look closely at the primary one.

The second pass brings every cell to the same size in the network's view, so that magnification does not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from buffycoat.crop.framing import fill_holes, separate_cells
from buffycoat.crop.segmenter import MAPS, SIDE_PX, predict_maps
from buffycoat.crop.stain import CENTRALITY, choose_primary
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]

STANDARD_DENSITY = 0.7
"""Optical density, mean over channels, that the darkest stain of a view is brought to."""
FAINTEST = 0.15
"""Least density taken for stain: an empty field is not amplified until its noise looks like cells."""
CLOSE_UP = 1.9
"""Side of the close-up, as a multiple of the cell's longer extent."""
LOOK_AGAIN = 1.25
"""A close-up whose right side is this many times larger or smaller is taken again."""
SMALL_CELL_PX = 450
"""A cell of less area in its view, pixels, is small: 24 pixels across."""
FINEST_PX = 512
"""Largest side that a whole field is searched at, view pixels."""
STRIDE = 0.75
"""Distance of overlapping views in that search, share of a view's side."""
MIN_CELL_SHARE = 0.004
"""Smaller cells are dirt; share of the image's area, a fourteenth of its side across; ours."""
MOST_LOOKS = 3
"""Close-ups of one cell at most."""


def clear_glass(image: Pixels) -> Floats:
    """Return the grey levels of clear glass per channel, (3,) 32..255: the 98th percentile of an (H, W, 3) image."""
    return np.maximum(np.percentile(image.reshape(-1, 3), 98, axis=0), 32).astype(np.float32)


def canonical(view: Pixels, clear: Floats) -> Floats:
    """Return a view (H, W, 3) uint8 RGB as transmittance, float32 in (0, 1], in standard light and stain.

    Clear glass, taken from the whole image, becomes 1. The stain is judged by the view itself, whose 99th percentile of
    density comes to STANDARD_DENSITY: in a whole field a nucleus may be too small to be seen by that, in a close-up it
    never is.
    """
    transmittance = np.minimum((view.astype(np.float32) + 1) / (clear + 1), 1)
    density = -np.log10(transmittance).mean(axis=2)
    deepest = max(FAINTEST, float(np.percentile(density, 99)))
    result: Floats = transmittance ** np.float32(STANDARD_DENSITY / deepest)
    return result


class Frame(NamedTuple):
    """A square of the source image that the network looks at; pixels of the source."""

    top: float
    left: float
    side: float


class Field(NamedTuple):
    """What the first pass found in one image: maps (3, R, R) and cells (R, R) of a frame, R being SIDE_PX or more."""

    clear: Floats
    frame: Frame
    maps: Floats
    labels: Labels


def whole_frame(height: int, width: int) -> Frame:
    """Return the smallest centred square that holds the whole image."""
    side = max(height, width)
    return Frame((height - side) / 2, (width - side) / 2, side)


def view_of(image: Pixels, frame: Frame, size_px: int = SIDE_PX) -> Pixels:
    """Return the square as (size_px, size_px, 3) uint8; outside the image, its border is continued."""
    top, left, side = round(frame.top), round(frame.left), max(8, round(frame.side))
    height, width = image.shape[:2]
    y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + side), min(width, left + side)
    inside = image[y0:y1, x0:x1]
    scale = size_px / side
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    small = cv2.resize(inside, size, interpolation=method)
    above = min(size_px - size[1], round((y0 - top) * scale))
    before = min(size_px - size[0], round((x0 - left) * scale))
    below, after = size_px - size[1] - above, size_px - size[0] - before
    return np.asarray(cv2.copyMakeBorder(small, above, below, before, after, cv2.BORDER_REPLICATE), np.uint8)


def look_around(network: nn.Module, images: list[Pixels], min_cell_share: float = MIN_CELL_SHARE) -> list[Field]:
    """Return what the first pass finds in each image; cells smaller than the share of the image's area are dropped.

    Where it finds none, or only small ones, others may be too small to be seen in so large a field: it is searched
    again, twice and four times as finely.
    """
    frames = [whole_frame(*image.shape[:2]) for image in images]
    views = [view_of(image, frame) for image, frame in zip(images, frames, strict=True)]
    glass = [clear_glass(view) for view in views]
    maps = predict_maps(network, [canonical(*seen) for seen in zip(views, glass, strict=True)])
    fields = []
    for image, frame, clear, found in zip(images, frames, glass, maps, strict=True):
        field = _field(image, frame, clear, found, min_cell_share)
        finer = 2 * SIDE_PX
        while _usual_area(field) < SMALL_CELL_PX and finer <= min(FINEST_PX, frame.side):
            searched = _field(image, frame, clear, _search(network, image, frame, clear, finer), min_cell_share)
            field = searched if searched.labels.any() else field
            finer *= 2
        fields.append(field)
    return fields


def _usual_area(field: Field) -> float:
    """Return the median area of the cells, view pixels; 0 without one."""
    areas = np.bincount(field.labels.ravel())[1:]
    return float(np.median(areas[areas > 0])) if (areas > 0).any() else 0.0


def _field(image: Pixels, frame: Frame, clear: Floats, maps: Floats, min_cell_share: float) -> Field:
    scale = maps.shape[-1] / frame.side
    least = min_cell_share * image.shape[0] * image.shape[1] * scale**2
    # A cell at the border goes on in what continues the image: only what lies inside it is a cell's own.
    inside = np.zeros(maps.shape[1:], np.float32)
    rows = slice(round(-frame.top * scale), round((image.shape[0] - frame.top) * scale))
    cols = slice(round(-frame.left * scale), round((image.shape[1] - frame.left) * scale))
    inside[rows, cols] = 1
    own = maps * inside
    return Field(clear, frame, own, separate_cells(own, least))


def _search(network: nn.Module, image: Pixels, frame: Frame, clear: Floats, size_px: int) -> Floats:
    """Return the maps (3, size_px, size_px) of a square seen in overlapping views, averaged where they overlap."""
    canvas = view_of(image, frame, size_px)
    number = int(np.ceil((size_px - SIDE_PX) / (STRIDE * SIDE_PX))) + 1
    starts = np.linspace(0, size_px - SIDE_PX, number).round().astype(int)
    parts = [np.s_[row : row + SIDE_PX, col : col + SIDE_PX] for row in starts for col in starts]
    found = predict_maps(network, [canonical(canvas[part], clear) for part in parts])
    total, seen = np.zeros((len(MAPS), size_px, size_px), np.float32), np.zeros((size_px, size_px), np.float32)
    for part, maps in zip(parts, found, strict=True):
        total[:, *part] += maps
        seen[part] += 1
    return np.asarray(total / seen, np.float32)


def frame_around(region: Bools) -> Frame:
    """Return the square around a region (H, W) of an image that a close-up shows."""
    left, top, width, height = cv2.boundingRect(region.astype(np.uint8))
    side = max(32.0, CLOSE_UP * max(width, height))
    return Frame(top + (height - side) / 2, left + (width - side) / 2, side)


def onto(values: Floats, frame: Frame, height: int, width: int) -> Floats:
    """Return a map (R, R) of a square laid onto the image's pixels, (H, W) float32; 0 outside the square."""
    top, left, side = round(frame.top), round(frame.left), max(8, round(frame.side))
    large = cv2.resize(values, (side, side), interpolation=cv2.INTER_LINEAR)
    result = np.zeros((height, width), np.float32)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + side), min(width, left + side)
    result[y0:y1, x0:x1] = large[y0 - top : y1 - top, x0 - left : x1 - left]
    return result


def same_cell(maps: Floats, before: Floats) -> Bools:
    """Return which pixels of the close-up's maps (3, S, S) are the cell that the first pass saw there (S, S).

    Among the close-up's cells it is the one that shares most with it; where the close-up shows none, the first pass
    stands.
    """
    labels = separate_cells(maps, 0.01 * SIDE_PX**2)
    shared = np.bincount(labels.ravel(), weights=before.ravel())
    shared[0] = 0
    return np.asarray(labels == int(shared.argmax()) if shared.max() > 0 else before > 0.5, np.bool_)


def mask_from(maps: Floats, frame: Frame, before: Bools) -> Pixels:
    """Return the mask (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS of the cell that was seen at `before` (H, W).

    Probabilities, not masks, are brought to the image's pixels, so that outlines are smooth. Where the close-up shows
    no cell, the region seen before stands, without a nucleus.
    """
    height, width = before.shape
    own = same_cell(maps, view_of_map(before.astype(np.float32), frame))
    # Half a pixel beyond the cell's own pixels the probability still counts: it carries the outline.
    reach = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    cell = fill_holes(onto(maps[0] * reach, frame, height, width) > 0.5)
    if not cell.any():
        cell = before
    mask = np.full((height, width), BACKGROUND, np.uint8)
    mask[cell] = CYTOPLASM
    mask[(onto(maps[1] * reach, frame, height, width) > 0.5) & cell] = NUCLEUS
    return mask


def look_closer(network: nn.Module, images: list[Pixels], glass: list[Floats], seen: list[Bools]) -> list[Pixels]:
    """Return the mask of the cell at `seen` (H, W) in each image, from close-ups in canonical light.

    Where the close-up shows a cell of quite another size than was seen before, it was framed wrongly and is taken
    again.
    """
    masks: list[Pixels] = [np.zeros(region.shape, np.uint8) for region in seen]
    regions, frames, waiting = list(seen), [frame_around(region) for region in seen], list(range(len(seen)))
    for _ in range(MOST_LOOKS):
        views = [canonical(view_of(images[k], frames[k]), glass[k]) for k in waiting]
        for k, maps in zip(waiting, predict_maps(network, views), strict=True):
            masks[k] = mask_from(maps, frames[k], regions[k])
        better = {k: frame_around(masks[k] != BACKGROUND) for k in waiting}
        waiting = [k for k in waiting if abs(np.log(better[k].side / frames[k].side)) > np.log(LOOK_AGAIN)]
        for k in waiting:
            regions[k], frames[k] = masks[k] != BACKGROUND, better[k]
        if not waiting:
            break
    return masks


def view_of_map(values: Floats, frame: Frame) -> Floats:
    """Return the square of an image's map (H, W) as (SIDE_PX, SIDE_PX) float32; 0 outside the image."""
    scale = SIDE_PX / max(8, round(frame.side))
    move = np.array([[scale, 0, -round(frame.left) * scale], [0, scale, -round(frame.top) * scale]], np.float32)
    return np.asarray(cv2.warpAffine(values, move, (SIDE_PX, SIDE_PX), flags=cv2.INTER_NEAREST), np.float32)


def region_of(field: Field, label: int, image: Pixels) -> Bools:
    """Return one cell of the first pass on the image's pixels, (H, W) bool."""
    own = (field.labels == label).astype(np.float32)
    region: Bools = onto(own, field.frame, image.shape[0], image.shape[1]) > 0.5
    return region


def segment_by_network(
    network: nn.Module, images: list[Pixels], min_cell_share: float = MIN_CELL_SHARE, centrality: float = CENTRALITY
) -> list[tuple[Pixels, int]]:
    """Return (mask of the primary cell, number of white cells) per image, in order; no cell: an empty mask and 0.

    The primary cell is chosen by the area of its nucleus and its centrality, as `choose_primary` says.
    """
    fields = look_around(network, images, min_cell_share)
    answers = [(np.full(image.shape[:2], BACKGROUND, np.uint8), 0) for image in images]
    chosen: dict[int, Bools] = {}
    for place, (image, field) in enumerate(zip(images, fields, strict=True)):
        nuclear = np.where(field.maps[1] > 0.5, field.labels, 0).astype(np.int32)
        label, cells = choose_primary(nuclear, 1, centrality)
        region = region_of(field, label, image) if label else np.zeros(0, np.bool_)
        if region.any():
            chosen[place], answers[place] = region, (answers[place][0], cells)
    if chosen:
        places = list(chosen)
        masks = look_closer(
            network, [images[k] for k in places], [fields[k].clear for k in places], [chosen[k] for k in places]
        )
        for place, mask in zip(places, masks, strict=True):
            answers[place] = (mask, answers[place][1])
    return answers


def all_cells(network: nn.Module, image: Pixels, min_cell_share: float = MIN_CELL_SHARE) -> list[Pixels]:
    """Return a mask (H, W) of each white cell of a field, largest first."""
    (field,) = look_around(network, [image], min_cell_share)
    regions = [region_of(field, int(label), image) for label in np.unique(field.labels[field.labels > 0])]
    regions = sorted((region for region in regions if region.any()), key=lambda region: -int(region.sum()))
    if not regions:
        return []
    return look_closer(network, [image] * len(regions), [field.clear] * len(regions), regions)


def cell_nearest(network: nn.Module, image: Pixels, wanted: Bools) -> tuple[list[Pixels], int]:
    """Return the mask (H, W) of the white cell that overlaps most with `wanted` (H, W), and how many cells were seen.

    Without a cell that overlaps at all there is no mask.
    """
    (field,) = look_around(network, [image])
    labels = [int(label) for label in np.unique(field.labels[field.labels > 0])]
    regions = [region_of(field, label, image) for label in labels]
    shares = [float((region & wanted).sum()) / max(1.0, float((region | wanted).sum())) for region in regions]
    if not shares or max(shares) == 0:
        return [], len(labels)
    return look_closer(network, [image], [field.clear], [regions[int(np.argmax(shares))]]), len(labels)


def rough_nuclei(network: nn.Module, images: list[Pixels]) -> list[Bools]:
    """Return where the first pass sees nuclei in each image, (H, W) bool."""
    fields = look_around(network, images, 0.0)
    return [
        np.asarray(onto(field.maps[1], field.frame, *image.shape[:2]) > 0.5)
        for image, field in zip(images, fields, strict=True)
    ]


def fine_nuclei(network: nn.Module, images: list[Pixels], cells: list[Bools]) -> list[Bools]:
    """Return the nucleus inside a cell (H, W) that another method found in each image, from a close-up."""
    glass = [clear_glass(view_of(image, whole_frame(*image.shape[:2]))) for image in images]
    frames = [frame_around(cell) for cell in cells]
    seen = [view_of(image, frame) for image, frame in zip(images, frames, strict=True)]
    views = [canonical(view, clear) for view, clear in zip(seen, glass, strict=True)]
    maps = predict_maps(network, views)
    return [
        np.asarray((onto(found[1], frame, *cell.shape) > 0.5) & cell)
        for found, frame, cell in zip(maps, frames, cells, strict=True)
    ]
