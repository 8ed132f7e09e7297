from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from buffycoat.report import figures as draw

CODES = ["LY", "$x^$", "$P_{$"]


def drawn(figure: Figure) -> bytes:
    """Draw for real: what matplotlib cannot parse or lay out shows only then."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=40)
    return stream.getvalue()


def pictures(labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"role": "train", "status": "ok", "label": labels})


def heights(figure: Figure) -> list[float]:
    return [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]


def test_the_distribution_counts_usable_training_images_and_known_test_labels() -> None:
    images = pictures(["LY"] * 5 + ["$x^$"] * 2)
    images.loc[0, "status"], images.loc[1, "role"] = "duplicate", "test"
    answers = pd.DataFrame({"image_id": ["a", "b", "c"], "label": ["LY", "$P_{$", "$P_{$"]})
    figure = draw.class_distribution(images, answers, CODES)
    assert heights(figure) == [3, 2, 0, 1, 0, 2]
    assert drawn(figure)


def test_the_distribution_without_test_labels_has_one_bar_per_class() -> None:
    figure = draw.class_distribution(pictures(["LY"]), pd.DataFrame({"label": []}), CODES)
    assert heights(figure) == [1, 0, 0] and drawn(figure)


def test_the_confusion_figure_is_coloured_by_the_share_of_the_row() -> None:
    counts = {"LY": [6, 2, 0], "$x^$": [0, 0, 0], "$P_{$": [0, 0, 4]}
    rows = [
        {"phase": phase, "part": "test", "true": true, "predicted": code, "images": count}
        for phase in ("branch_a", "phase_3") for true, row in counts.items()
        for code, count in zip(CODES, row, strict=True)
    ]  # fmt: skip
    figure = draw.confusion_figure(pd.DataFrame(rows), "test", CODES)
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert np.allclose(shares, [[0.75, 0.25, 0], [0, 0, 0], [0, 0, 1]])
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["2", "4", "6"]
    assert drawn(figure)


def test_the_noise_histogram_tells_flagged_bars_by_colour() -> None:
    histogram = {"edges": [1.0, 4.0, 10.0, 40.0], "counts": [3, 5, 2]}
    other = {"edges": [0.0, 0.5, 1.0], "counts": [9, 1]}
    threshold = {
        "measured_over": "field", "level": 10.0, "histogram": histogram,
        "blur": {"level": 0.5, "histogram": other}, "light": {"level": 3.5, "histogram": other},
    }  # fmt: skip
    figure = draw.noise_histogram(threshold)
    noise, blur, light = ([bar.get_facecolor() for bar in axis.patches] for axis in figure.axes)  # type: ignore[attr-defined]
    assert noise[0] == noise[1] != noise[2] and heights(figure) == [3, 5, 2]
    assert blur[0] != blur[1] == noise[2] and light[0] == light[1] == noise[0]
    assert drawn(figure)


def test_calibration_of_one_part_can_be_drawn() -> None:
    entry = {"expected_calibration_error": 0.1, "bins": [[0.4, 0.5, 3.0], [0.9, 0.8, 7.0]]}
    figure = draw.reliability({"out_of_fold": entry})
    assert len(figure.axes[0].lines) == 2 and drawn(figure)
