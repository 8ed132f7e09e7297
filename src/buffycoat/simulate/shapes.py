"""Outlines of cells and nuclei as polygons (n, 2) float, x then y, pixels; and drawing them with smooth edges."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Canvas = npt.NDArray[np.float32]
_SHIFT = 4
"""OpenCV draws at a sixteenth of a pixel."""


def wavy_circle(rng: np.random.Generator, radius: float, waviness: float, harmonics: int = 5) -> Points:
    """Return a closed outline around the origin whose radius varies by about `waviness` of itself."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    k = np.arange(2, 2 + harmonics)
    sizes = rng.normal(0, waviness, harmonics) / np.sqrt(k - 1)
    phases = rng.uniform(0, 2 * np.pi, harmonics)
    r = radius * (1 + (sizes[:, None] * np.cos(k[:, None] * angle + phases[:, None])).sum(axis=0))
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def stretched(points: Points, ratio: float, angle: float) -> Points:
    """Return the outline stretched by `ratio` along `angle`, its area kept."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    root = np.sqrt(ratio)
    result: Points = points @ turn * np.array([root, 1 / root]) @ turn.T
    return result


def with_spikes(rng: np.random.Generator, points: Points, count: int, length: float) -> Points:
    """Return the outline with `count` narrow projections, each up to `length` of the radius long."""
    angle = np.arctan2(points[:, 1], points[:, 0])
    gain = np.ones(len(points))
    for _ in range(count):
        at, width = rng.uniform(-np.pi, np.pi), rng.uniform(0.10, 0.18)
        away = np.angle(np.exp(1j * (angle - at)))
        gain += length * rng.uniform(0.75, 1.0) * np.exp(-((away / width) ** 2) / 2)
    return points * gain[:, None]


def filled(shape: tuple[int, int], outlines: list[Points]) -> Canvas:
    """Return (H, W) float32, 1 inside the outlines and smooth over about a pixel at their edges."""
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.rint(outline * 2**_SHIFT).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    return _as_shares(canvas)


def _as_shares(canvas: npt.NDArray[np.uint8]) -> Canvas:
    return np.asarray(canvas, np.float32) * np.float32(1 / 255)


def stroked(shape: tuple[int, int], path: Points, width: float) -> Canvas:
    """Return (H, W) float32, 1 along a path of even width with round ends."""
    canvas = np.zeros(shape, np.uint8)
    fixed = np.rint(path * 2**_SHIFT).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, _SHIFT)
    return _as_shares(canvas)


def rounded(canvas: Canvas, radius: float) -> Canvas:
    """Return the canvas with its corners rounded to about `radius`: blurred, then cut at one half, softly."""
    blurred = np.asarray(cv2.GaussianBlur(canvas, (0, 0), radius), np.float32)
    # The blurred edge rises over about 2.5 standard deviations; this makes it rise over two pixels again.
    smooth: Canvas = np.clip((blurred - 0.5) * np.float32(1.25 * radius) + 0.5, 0, 1)
    return smooth


def dots(
    rng: np.random.Generator, shape: tuple[int, int], inside: Canvas, count: int, radius: tuple[float, float]
) -> Canvas:
    """Return (H, W) float32 with `count` soft dots of random size at random places where `inside` is set."""
    canvas = np.zeros(shape, np.uint8)
    rows, cols = np.nonzero(inside > 0.5)
    if rows.size:
        for place in rng.integers(rows.size, size=count):
            centre = (int(cols[place] * 16), int(rows[place] * 16))
            size = max(8, int(rng.uniform(*radius) * 16))
            cv2.circle(canvas, centre, size, int(rng.integers(150, 256)), -1, cv2.LINE_AA, _SHIFT)
    return _as_shares(canvas)


def clouds(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Canvas:
    """Return (H, W) float32 noise of mean 0 and spread about 1 whose blobs are about `grain` pixels wide."""
    small = (max(2, int(shape[0] / grain) + 2), max(2, int(shape[1] / grain) + 2))
    noise = rng.standard_normal(small, dtype=np.float32)
    return np.asarray(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
