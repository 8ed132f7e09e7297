"""What each class looks like, in the terms a haematologist uses: size, nucleus, chromatin, cytoplasm, granules.

Colours are optical densities in red, green and blue; sizes are pixels of a 368-pixel field, in which a red cell has a
radius of about 40. After standard descriptions of Wright-Giemsa-stained blood films.
"""

from __future__ import annotations

from dataclasses import dataclass

Density = tuple[float, float, float]

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
