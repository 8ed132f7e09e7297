"""Painting one field: outlines, red cells, platelets, a white cell in optical density; then light, lens and sensor.

Classes are described in the terms a haematologist uses: size, nucleus, chromatin, cytoplasm, granules. Colours are
optical densities in red, green and blue; sizes are pixels of a 368-pixel field, in which a red cell has a radius of
about 40. After standard descriptions of Wright-Giemsa-stained blood films.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels

Points = npt.NDArray[np.float64]
Canvas = npt.NDArray[np.float32]
Shape = tuple[int, int]
Density = tuple[float, float, float]

_SHIFT = 4
"""OpenCV draws at a sixteenth of a pixel."""
FIELD_PX = 368
RED_CELL: Density = (0.075, 0.20, 0.18)
PLATELET: Density = (0.22, 0.40, 0.18)
PINK: Density = (0.07, 0.17, 0.10)
LILAC: Density = (0.12, 0.22, 0.10)
GREY_BLUE: Density = (0.20, 0.25, 0.13)
PALE_BLUE: Density = (0.20, 0.20, 0.07)
BLUE: Density = (0.33, 0.34, 0.12)
DEEP_BLUE: Density = (0.40, 0.39, 0.11)
CHROMATIN: Density = (0.46, 0.82, 0.32)
ORANGE: Density = (0.06, 0.42, 0.40)
PURPLE: Density = (0.28, 0.55, 0.24)
BLACK_PURPLE: Density = (0.62, 0.85, 0.42)
PINKISH: Density = (0.10, 0.26, 0.15)
NEUTROPHIL_GRANULES = (120, 220)


@dataclass(frozen=True)
class Look:
    """One class. Ranges are drawn from uniformly; shares are of the cell's radius."""

    radius: tuple[float, float]
    nucleus: str
    """`round`, `kidney`, `band` or `lobes`."""
    nucleus_size: tuple[float, float]
    """Radius of a round or kidney nucleus, share of the cell's; for lobes and bands the share they are spread over."""
    cytoplasm: Density
    clumping: float
    """Contrast of the chromatin: fine in blasts, coarse in mature cells."""
    chromatin: float = 1.0
    """Density of the chromatin."""
    waviness: float = 0.03
    eccentric: tuple[float, float] = (0.0, 0.15)
    """Distance of the nucleus from the cell's centre, share of the room it has."""
    lobes: tuple[int, int] = (1, 1)
    indentation: tuple[float, float] = (0.0, 0.0)
    nucleoli: tuple[int, int] = (0, 0)
    granules: Density | None = None
    granule_count: tuple[int, int] = (0, 0)
    granule_radius: tuple[float, float] = (1.0, 1.8)
    granules_over_nucleus: bool = False
    vacuoles: tuple[int, int] = (0, 0)
    spikes: tuple[int, int] = (0, 0)
    halo: bool = False
    """A pale zone beside the nucleus (perinuclear hof)."""
    cartwheel: bool = False
    """Chromatin in blocks around the rim of the nucleus (clock face)."""
    stretch: tuple[float, float] = (1.0, 1.12)


LOOKS: dict[str, Look] = {
    "BA": Look((60, 68), "lobes", (0.5, 0.6), LILAC, 0.15, 0.8, lobes=(2, 3), granules=BLACK_PURPLE,
               granule_count=(90, 150), granule_radius=(2.2, 4.2), granules_over_nucleus=True),
    "BL": Look((64, 82), "round", (0.82, 0.90), BLUE, 0.10, 0.78, nucleoli=(1, 4), waviness=0.04),
    "BNE": Look((66, 76), "band", (0.50, 0.60), PINK, 0.22, granules=PINKISH, granule_count=NEUTROPHIL_GRANULES),
    "EO": Look((68, 78), "lobes", (0.52, 0.62), PINK, 0.2, lobes=(2, 2), granules=ORANGE, granule_count=(260, 380),
               granule_radius=(2.4, 3.6)),
    "LY": Look((46, 56), "round", (0.82, 0.90), PALE_BLUE, 0.22, 1.1, eccentric=(0.0, 0.6), waviness=0.035),
    "MMY": Look((70, 80), "kidney", (0.64, 0.72), PINK, 0.20, 0.95, eccentric=(0.3, 0.7), indentation=(0.35, 0.6),
                granules=PINKISH, granule_count=(140, 240)),
    "MO": Look((78, 92), "kidney", (0.66, 0.76), GREY_BLUE, 0.16, 0.78, waviness=0.06, indentation=(0.3, 0.8),
               eccentric=(0.1, 0.4), granules=PURPLE, granule_count=(20, 60), granule_radius=(0.8, 1.1),
               vacuoles=(0, 7)),
    "MY": Look((72, 84), "round", (0.60, 0.70), LILAC, 0.18, 0.92, eccentric=(0.5, 0.9), granules=PURPLE,
               granule_count=(90, 180), granule_radius=(0.9, 1.6), stretch=(1.05, 1.25)),
    "PC": Look((60, 74), "round", (0.46, 0.54), DEEP_BLUE, 0.20, 1.05, eccentric=(0.8, 0.98), halo=True,
               cartwheel=True, stretch=(1.15, 1.45), waviness=0.04),
    "PLY": Look((60, 70), "round", (0.70, 0.78), BLUE, 0.18, 0.95, nucleoli=(1, 1), spikes=(1, 3), waviness=0.05,
                eccentric=(0.0, 0.4)),
    "PMY": Look((80, 96), "round", (0.68, 0.78), BLUE, 0.12, 0.82, eccentric=(0.3, 0.8), nucleoli=(1, 3),
                granules=BLACK_PURPLE, granule_count=(70, 160), granule_radius=(1.2, 2.2), granules_over_nucleus=True),
    "SNE": Look((66, 76), "lobes", (0.52, 0.62), PINK, 0.22, 1.05, lobes=(2, 5), granules=PINKISH,
                granule_count=NEUTROPHIL_GRANULES),
    "VLY": Look((74, 92), "round", (0.54, 0.66), PALE_BLUE, 0.20, 0.9, eccentric=(0.2, 0.7), waviness=0.09,
                stretch=(1.05, 1.35)),
}  # fmt: skip
"""The look of each of the thirteen classes."""


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


@dataclass(frozen=True)
class Slide:
    """How one patient's slide was stained and lit."""

    stain: npt.NDArray[np.float32]
    """Gain of the optical density per channel (3,)."""
    glass: npt.NDArray[np.float32]
    """Grey levels of clear glass per channel (3,)."""
    red_cell: npt.NDArray[np.float32]
    """Density of red cells per channel (3,)."""
    crowding: float
    """Red cells per field."""
    size: float
    """Magnification relative to the nominal one."""


def draw_slide(rng: np.random.Generator) -> Slide:
    """Return a random patient's slide."""
    return Slide(
        stain=(rng.uniform(0.85, 1.15) * rng.uniform(0.92, 1.08, 3)).astype(np.float32),
        glass=(rng.uniform(228, 248) * np.array([1.0, *rng.uniform(0.955, 1.01, 2)])).astype(np.float32),
        red_cell=(np.array(RED_CELL) * rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, 3)).astype(np.float32),
        crowding=float(rng.uniform(7, 17)),
        size=float(rng.uniform(0.93, 1.07)),
    )


def lay_over(
    density: Canvas, alpha: Canvas, colour: Density | npt.NDArray[np.float32], texture: Canvas | float
) -> None:
    """Paint `colour` times `texture` over `density` (H, W, 3), in place, where `alpha` (H, W) is set."""
    strength = np.broadcast_to(np.asarray(texture, np.float32), alpha.shape) * alpha
    # Channel by channel: whole planes are several times faster than a trailing axis of three.
    for channel, amount in enumerate(np.asarray(colour, np.float32)):
        density[..., channel] += strength * amount - alpha * density[..., channel]


def paint_red_cells(rng: np.random.Generator, density: Canvas, slide: Slide, keep_free: Points) -> None:
    """Paint red cells with pale centres, and platelets, anywhere but on the white cell's centre."""
    shape = density.shape[:2]
    bodies, pallors = [], []
    for _ in range(int(rng.poisson(slide.crowding))):
        centre = rng.uniform(-25, FIELD_PX + 25, 2)
        if np.linalg.norm(keep_free - centre, axis=1).min() < rng.uniform(6, 40) or _contains(keep_free, centre):
            continue
        radius = rng.normal(40, 2.5) * slide.size
        outline = stretched(wavy_circle(rng, radius, 0.02), rng.uniform(1, 1.15), rng.uniform(0, np.pi))
        bodies.append(outline + centre)
        pallors.append(outline * rng.uniform(0.25, 0.5) + centre)
    body = cv2.GaussianBlur(filled((shape[0], shape[1]), bodies), (0, 0), 1.2)
    pallor = cv2.GaussianBlur(filled((shape[0], shape[1]), pallors), (0, 0), 7)
    lay_over(density, body * 0.96, slide.red_cell, 1 - 0.6 * pallor)
    specks = [wavy_circle(rng, rng.uniform(5, 10), 0.12) + rng.uniform(0, FIELD_PX, 2) for _ in range(rng.poisson(1.5))]
    specks = [speck for speck in specks if not _contains(keep_free, speck.mean(axis=0))]
    if specks:
        texture = 1 + 0.3 * clouds(rng, (shape[0], shape[1]), 4)
        lay_over(density, _blurred(filled((shape[0], shape[1]), specks), 1.0), PLATELET, texture)


def _blurred(canvas: Canvas, sigma: float) -> Canvas:
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), np.float32)


def _contains(outline: Points, point: npt.NDArray[np.float64]) -> bool:
    return cv2.pointPolygonTest(outline.astype(np.float32), (float(point[0]), float(point[1])), False) >= 0


def nucleus_shape(rng: np.random.Generator, look: Look, radius: float, shape: Shape, centre: Points) -> Canvas:
    """Return the nucleus of a cell of `radius` around `centre` (2,), (H, W) float32."""
    size = radius * rng.uniform(*look.nucleus_size)
    if look.nucleus == "lobes":
        return _lobes(rng, int(rng.integers(look.lobes[0], look.lobes[1] + 1)), size, shape, centre)
    if look.nucleus == "band":
        return _band(rng, size, shape, centre)
    outline = stretched(wavy_circle(rng, size, look.waviness * 0.7), rng.uniform(1, 1.22), rng.uniform(0, np.pi))
    room = max(0.0, radius * 0.95 - size)
    direction = rng.uniform(0, 2 * np.pi)
    away = np.array([np.cos(direction), np.sin(direction)])
    middle = centre + away * room * rng.uniform(*look.eccentric)
    body = filled(shape, [outline + middle])
    if look.nucleus == "kidney":
        depth = rng.uniform(*look.indentation)
        # The notch faces the middle of the cell, where the cytoplasm is; wide and shallow, as of a kidney.
        notch = stretched(wavy_circle(rng, size * 0.62, 0.03), 1.3, direction + np.pi / 2)
        body = rounded(body * (1 - filled(shape, [notch + middle - away * size * (1.55 - depth)])), 0.09 * size)
    return np.asarray(body, np.float32)


def _lobes(rng: np.random.Generator, count: int, spread: float, shape: Shape, centre: Points) -> Canvas:
    turn, sweep = rng.uniform(0, 2 * np.pi), rng.uniform(3.2, 4.6) if count > 2 else rng.uniform(2.0, 3.0)
    angles = turn + np.linspace(-sweep / 2, sweep / 2, count) + rng.normal(0, 0.12, count)
    at = centre + spread * np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.8, 1.05, (count, 1))
    size = spread * {1: 0.8, 2: 0.72, 3: 0.56, 4: 0.47, 5: 0.42}[count]
    outlines = [
        stretched(wavy_circle(rng, size * rng.uniform(0.85, 1.12), 0.05), rng.uniform(1.1, 1.5), angle + np.pi / 2)
        + spot
        for spot, angle in zip(at, angles, strict=True)
    ]
    return np.maximum(filled(shape, outlines), stroked(shape, at, max(2.0, size * rng.uniform(0.08, 0.2))))


def _band(rng: np.random.Generator, spread: float, shape: Shape, centre: Points) -> Canvas:
    sweep, turn = rng.uniform(3.0, 4.4), rng.uniform(0, 2 * np.pi)
    t = np.linspace(-sweep / 2, sweep / 2, 30)
    bend = 1 + 0.12 * np.cos(2 * t + rng.uniform(0, 2 * np.pi))
    path = spread * bend[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)
    if rng.random() < 0.3:
        # An S: the second half swings to the other side.
        path[15:, 1] = 2 * path[15, 1] - path[15:, 1] * 0.6
        path -= path.mean(axis=0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return stroked(shape, path @ rotation + centre, spread * rng.uniform(0.58, 0.72))


def _chromatin(rng: np.random.Generator, look: Look, nucleus: Canvas) -> Canvas:
    """Return the texture of the nucleus: clumps, nucleoli, or a clock face; about 1 on average."""
    shape = (nucleus.shape[0], nucleus.shape[1])
    texture = 1 + look.clumping * (0.7 * clouds(rng, shape, 9) + 0.5 * clouds(rng, shape, 4))
    if look.cartwheel:
        inside = cv2.distanceTransform((nucleus > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        rim = (inside > 3) & (inside < 0.6 * max(1.0, float(inside.max())))
        texture += 0.45 * dots(rng, shape, rim.astype(np.float32), 9, (5, 8)) - 0.12
    count = int(rng.integers(look.nucleoli[0], look.nucleoli[1] + 1)) if look.nucleoli[1] else 0
    if count:
        core = np.asarray(cv2.erode(nucleus, np.ones((15, 15), np.uint8)), np.float32)
        size = (8.0, 11.0) if count == 1 else (5.0, 8.0)
        texture -= 0.42 * cv2.GaussianBlur(dots(rng, shape, core, count, size), (0, 0), 1.2)
    return np.clip(texture, 0.35, 1.9).astype(np.float32)


def paint_white_cell(rng: np.random.Generator, density: Canvas, look: Look, outline: Points, radius: float) -> Pixels:
    """Paint the cell in place; return its mask, (H, W) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS."""
    shape = (density.shape[0], density.shape[1])
    centre = outline.mean(axis=0)
    cell = filled(shape, [outline])
    nucleus = nucleus_shape(rng, look, radius, shape, centre) * cell
    cytoplasm = 1 + 0.12 * clouds(rng, shape, 14) + 0.06 * clouds(rng, shape, 5)
    if look.halo:
        rows, cols = np.nonzero(nucleus > 0.5)
        towards = centre - np.array([cols.mean(), rows.mean()])
        spot = np.array([cols.mean(), rows.mean()]) + towards * 0.9
        hof = filled(shape, [wavy_circle(rng, radius * 0.33, 0.06) + spot])
        cytoplasm = cytoplasm * (1 - 0.6 * cv2.GaussianBlur(hof, (0, 0), 6))
    if look.vacuoles[1]:
        holes = dots(rng, shape, cell, int(rng.integers(look.vacuoles[0], look.vacuoles[1] + 1)), (2.5, 5.0))
        cytoplasm = cytoplasm * (1 - 0.7 * cv2.GaussianBlur(holes, (0, 0), 0.8))
    edge = cv2.GaussianBlur(cell, (0, 0), 1.0)
    lay_over(density, edge * 0.97, look.cytoplasm, cytoplasm.astype(np.float32))
    if look.granules is not None and not look.granules_over_nucleus:
        _granules(rng, density, look, cell)
    tone = rng.uniform(0.9, 1.1) * look.chromatin
    lay_over(density, _blurred(nucleus, 0.9), CHROMATIN, tone * _chromatin(rng, look, nucleus))
    if look.granules is not None and look.granules_over_nucleus:
        _granules(rng, density, look, cell)
    mask = np.full(shape, BACKGROUND, np.uint8)
    mask[cell > 0.5] = CYTOPLASM
    mask[(nucleus > 0.5) & (cell > 0.5)] = NUCLEUS
    return mask


def _granules(rng: np.random.Generator, density: Canvas, look: Look, cell: Canvas) -> None:
    assert look.granules is not None
    shape = (density.shape[0], density.shape[1])
    inside = np.asarray(cv2.erode(cell, np.ones((7, 7), np.uint8)), np.float32)
    grains = dots(rng, shape, inside, int(rng.integers(*look.granule_count)), look.granule_radius)
    lay_over(density, _blurred(grains, 0.6) * 0.85, look.granules, 1.0)


def draw_field(label: str, slide: Slide, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Return a clean field of one white cell of class `label` on a patient's slide, and its mask.

    Returns (368, 368, 3) uint8 RGB and (368, 368) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS.
    """
    look = LOOKS[label]
    radius = rng.uniform(*look.radius) * slide.size
    outline = stretched(wavy_circle(rng, radius, look.waviness), rng.uniform(*look.stretch), rng.uniform(0, np.pi))
    if look.spikes[1]:
        count = int(rng.integers(look.spikes[0], look.spikes[1] + 1))
        outline = with_spikes(rng, outline, count, rng.uniform(0.50, 0.66))
    outline = outline + FIELD_PX / 2 + rng.normal(0, 7, 2)
    density = np.full((FIELD_PX, FIELD_PX, 3), 0.01, np.float32)
    paint_red_cells(rng, density, slide, outline)
    mask = np.full((FIELD_PX, FIELD_PX), BACKGROUND, np.uint8)
    # Only the square around the cell is touched: most of the field is not.
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 8, 0)
    high = np.ceil(outline.max(axis=0)).astype(int) + 8
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    mask[part] = paint_white_cell(rng, density[part], look, outline - low, radius)
    shade = 1 + 0.01 * clouds(rng, (FIELD_PX, FIELD_PX), 180)[..., None]
    image = slide.glass * shade * np.exp(density * (slide.stain * np.float32(-np.log(10))))
    image = _blurred(image, float(rng.uniform(0.6, 1.1)))
    image += rng.standard_normal(image.shape, dtype=np.float32) * 1.6
    return np.clip(image, 0, 255).astype(np.uint8), mask
