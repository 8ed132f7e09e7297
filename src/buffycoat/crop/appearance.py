"""The canonical look of a smear image: one light and one strength of stain, whatever the microscope and the dye."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from buffycoat.images import Pixels

Floats = npt.NDArray[np.float32]

STANDARD_DENSITY = 0.7
"""Optical density, mean over channels, that the darkest stain of a view is brought to."""
FAINTEST = 0.15
"""Least density taken for stain: an empty field is not amplified until its noise looks like cells."""


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
