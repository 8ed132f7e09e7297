from __future__ import annotations

import math

import pandas as pd
import pytest

from buffycoat.core.scale import scale_line, scale_of, scale_sentences


def figures(diameters: list[float], missing: int = 0, window: int = 200, side: int = 300) -> dict[str, object]:
    """Figures of cells of these diameters, and images without a cell; `side` is the images' shorter side."""
    count = len(diameters) + missing
    areas = [round(math.pi / 4 * d**2) for d in diameters] + [0] * missing
    ids = [f"{k}" for k in range(count)]
    crops = pd.DataFrame({"image_id": ids, "found": [area > 0 for area in areas], "area_px": areas, "masks": 1})
    images = pd.DataFrame({"image_id": ids[::-1], "width": side + 50, "height": side})
    return scale_of(crops.assign(window_px=window), images)


def test_yield_and_scale_are_one_line() -> None:
    found = figures([80, 100, 120], missing=1)
    assert found["images"] == 4 and found["found"] == 3 and found["image_px"] == 300
    assert scale_line(found) == (
        "cells found in 3 of 4 images; median diameter 100 px, 0.50 of the window of 200 px (0.41 to 0.59 in nine of"
        " ten cells)"
    )
    assert scale_line(figures([], missing=2)) == "cells found in 0 of 2 images"
    assert scale_line(figures([])) == "cells found in 0 of 0 images"


def test_what_is_usual_is_not_warned_of() -> None:
    for share in (0.36, 0.6, 0.94):
        assert scale_sentences(figures([200 * share] * 30)) == []
    assert scale_sentences(figures([100] * 95, missing=5)) == [], "5 % without a cell are usual"
    assert scale_sentences(figures([])) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"diameters": [60] * 9}, "cells are small in their window: median diameter 60 px of 200 px"),
        ({"diameters": [195] * 9, "side": 900}, "cells are large in their window"),
        ({"diameters": [11] * 9, "side": 28}, "the window of 200 px is 7.1 times the images (28 px)"),
        ({"diameters": [100] * 9, "missing": 1}, "no white cell found in 1 of 10 images (more than 5 %)"),
        ({"diameters": [], "missing": 3, "side": 100}, "set crop.crop_cells.window_px to about 100"),
    ],
)
def test_what_is_outside_the_limits_is_said_with_a_remedy(given: dict[str, object], words: str) -> None:
    assert any(words in sentence for sentence in scale_sentences(figures(**given)))


def test_the_advised_window_is_no_longer_warned_of() -> None:
    for diameter in (20, 60, 196):
        (sentence,) = scale_sentences(figures([diameter] * 9, side=1000))
        advised = int(sentence.rpartition("about ")[2])
        assert scale_sentences(figures([diameter] * 9, window=advised, side=1000)) == []
