"""Classical segmentation of a white cell, from its nucleus outwards.

Nuclei take up azure and methylene blue, which absorb red light; red cells take up eosin, which lets red pass. So the
optical density of the red channel separates nuclei from red cells, whatever the stain's strength: thresholds are fitted
to each image. The cytoplasm is then found by graph cut between what is like the cell and what is like its surroundings.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

FAINTEST_NUCLEUS = 0.14
"""Least nuclear stain, in optical density, of anything that is taken for a nucleus."""
LOBE_GAP = 0.07
"""Widest gap between lobes of one nucleus, as a share of the image's longer side."""
WORK_PX = 160
"""Longer side that an image is reduced to while the cell is sought, pixels; ours."""
MIN_NUCLEUS_SHARE = 0.004
"""Smaller dark regions are platelets or dirt; share of the image's area; ours."""
CENTRALITY = 0.35
"""Spread of the preference for central cells, share of the image's side; ours (paper: the mask nearest the centre)."""


def optical_density(image: Pixels) -> Floats:
    """Return the optical density, (H, W, 3) float32 >= 0; each channel's 98th percentile counts as clear glass."""
    clear = np.maximum(np.percentile(image.reshape(-1, 3), 98, axis=0), 32).astype(np.float32)
    density: Floats = np.maximum(-np.log10((image.astype(np.float32) + 1) / (clear + 1)), 0).astype(np.float32)
    return density


def nuclear_stain(image: Pixels) -> Floats:
    """Return how strongly each pixel is stained as nuclei are, (H, W) float32 >= 0, in optical density.

    It is the density in red plus half of what green exceeds blue by: azure-stained chromatin is dense in red and far
    denser in green than in blue, red cells are clear in red and alike in green and blue.
    """
    density = cv2.GaussianBlur(optical_density(image), (3, 3), 0)
    stain: Floats = density[..., 0] + 0.5 * np.maximum(density[..., 1] - density[..., 2], 0)
    return stain


def nucleus_map(image: Pixels) -> Bools:
    """Return where the image is stained as nuclei are, (H, W) bool; empty where nothing stands out."""
    stain = nuclear_stain(image)
    low, top = (float(level) for level in np.percentile(stain, [2, 99.5]))
    if top - low < FAINTEST_NUCLEUS:
        return np.zeros(stain.shape, bool)
    scaled = np.clip(stain * (255 / top), 0, 255).astype(np.uint8)
    high = _three_levels(scaled)[1]
    return cv2.morphologyEx((scaled > high).astype(np.uint8), cv2.MORPH_OPEN, _disc(3)).astype(bool)


def _three_levels(scaled: Pixels) -> tuple[int, int]:
    """Return the two thresholds that part grey levels into three classes of least within-class variance (Otsu)."""
    counts = np.bincount(scaled.ravel(), minlength=256).astype(np.float64).reshape(64, 4).sum(1)
    weight = np.concatenate([[0], np.cumsum(counts)])
    moment = np.concatenate([[0], np.cumsum(counts * np.arange(64))])

    def between(a: Any, b: Any) -> Any:
        w, m = weight[b] - weight[a], moment[b] - moment[a]
        return np.where(w > 0, m**2 / np.maximum(w, 1e-9), 0.0)

    first, second = np.meshgrid(np.arange(1, 63), np.arange(2, 64), indexing="ij")
    score = between(0, first) + between(first, second) + between(second, 64)
    score[second <= first] = -1
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    return int(first[best]) * 4 - 1, int(second[best]) * 4 - 1


def _disc(diameter: int) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter)), np.uint8)


def group_lobes(nuclei: Bools) -> npt.NDArray[np.int32]:
    """Return labels (H, W) int32, 0 outside; lobes nearer than LOBE_GAP of the image's side are one cell."""
    reach = max(3, int(LOBE_GAP * max(nuclei.shape)) | 1)
    joined = cv2.dilate(nuclei.astype(np.uint8), _disc(reach))
    labels = np.asarray(cv2.connectedComponents(joined, connectivity=8)[1], np.int32)
    return np.where(nuclei, labels, 0).astype(np.int32)


def choose_primary(labels: npt.NDArray[np.int32], min_area: float, centrality: float = CENTRALITY) -> tuple[int, int]:
    """Return (label of the primary cell, number of cells of at least `min_area` pixels); label 0 where there is none.

    The score of a cell is the square root of its nuclear area times exp(-(d / (centrality * side))^2 / 2), d being the
    distance of its centroid from the image's centre: stain first, then centrality.
    """
    height, width = labels.shape
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    candidates = np.flatnonzero(areas >= min_area)
    best, best_score = 0, -1.0
    for label in candidates:
        rows, cols = np.nonzero(labels == label)
        distance = np.hypot(rows.mean() - (height - 1) / 2, cols.mean() - (width - 1) / 2)
        score = float(np.sqrt(areas[label]) * np.exp(-((distance / (centrality * max(height, width))) ** 2) / 2))
        if score > best_score:
            best, best_score = int(label), score
    return best, len(candidates)


def grow_cell(image: Pixels, nucleus: Bools, others: Bools) -> Bools:
    """Return the whole cell around `nucleus`, (H, W) bool, by graph cut (GrabCut, doi 10.1145/1015706.1015720).

    Sure cell: the nucleus. Perhaps cell: up to a reach around it that grows with its size. Sure surroundings:
    everything farther away, other nuclei, and clear glass.
    """
    area = float(nucleus.sum())
    radius = np.sqrt(area / np.pi)
    hull = _hull(nucleus)
    distance = cv2.distanceTransform((~hull).astype(np.uint8), cv2.DIST_L2, 3)
    density = optical_density(image)
    far = (distance > 1.6 * radius + 4) & ~others
    state = np.full(nucleus.shape, cv2.GC_BGD, np.uint8)
    near = distance <= 1.6 * radius + 4
    state[near] = cv2.GC_PR_BGD
    if far.any():
        state[near & _unlike(density, far)] = cv2.GC_PR_FGD
    state[distance <= 0.5 * radius + 2] = cv2.GC_PR_FGD
    state[others] = cv2.GC_BGD
    state[nucleus] = cv2.GC_FGD
    if not (state == cv2.GC_BGD).any():
        return hull
    features = np.clip(density * (255 / 1.2), 0, 255).astype(np.uint8)
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(features, state, (0, 0, 0, 0), background, foreground, 2, cv2.GC_INIT_WITH_MASK)
    return _tidy((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD), nucleus, radius)


def _unlike(density: Floats, region: Bools) -> Bools:
    """Return where colours are rare in `region`: less than 5 % of it has that colour or a like one."""
    bins = 16
    index = np.clip((density * (bins / 0.8)).astype(np.int32), 0, bins - 1)
    flat = (index[..., 0] * bins + index[..., 1]) * bins + index[..., 2]
    counts = np.bincount(flat[region], minlength=bins**3).astype(np.float32).reshape(bins, bins, bins)
    # Neighbouring colours count too: three taps along each axis.
    for axis in range(3):
        counts = counts + np.roll(counts, 1, axis) + np.roll(counts, -1, axis)
    rare: Bools = (counts / max(1.0, float(region.sum()))).ravel()[flat] < 0.05
    return rare


def _hull(region: Bools) -> Bools:
    points = cv2.findNonZero(region.astype(np.uint8))
    filled = np.zeros(region.shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(points), 1)
    return filled.astype(bool)


def _tidy(cell: Bools, nucleus: Bools, radius: float) -> Bools:
    """Cut thin bridges to neighbours, keep the part with the nucleus, fill holes."""
    size = max(3, int(0.5 * radius) | 1)
    opened = cv2.morphologyEx((cell | nucleus).astype(np.uint8), cv2.MORPH_OPEN, _disc(size)).astype(bool) | nucleus
    closed = cv2.morphologyEx(opened.astype(np.uint8), cv2.MORPH_CLOSE, _disc(size))
    labels = cv2.connectedComponents(closed, connectivity=4)[1]
    kept = np.isin(labels, np.unique(labels[nucleus])) & (closed > 0)
    contours = cv2.findContours(kept.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = np.zeros(cell.shape, np.uint8)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    return filled.astype(bool)


def segment_by_stain(image: Pixels) -> tuple[Pixels, int]:
    """Return the mask of the primary cell, (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS, and the number of cells.

    An image without a nucleus gives an all-BACKGROUND mask and 0.
    """
    height, width = image.shape[:2]
    scale = min(1.0, WORK_PX / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    labels = group_lobes(nucleus_map(small))
    label, cells = choose_primary(labels, MIN_NUCLEUS_SHARE * small.shape[0] * small.shape[1])
    mask = np.full(small.shape[:2], BACKGROUND, np.uint8)
    if label:
        nucleus = labels == label
        mask[grow_cell(small, nucleus, (labels > 0) & ~nucleus)] = CYTOPLASM
        mask[nucleus] = NUCLEUS
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8), cells
