from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from buffycoat.report import draw_figures as draw

CODES = ["LY", "$x^$", "$P_{$"]


def drawn(figure: Figure) -> bytes:
    """Draw for real: what matplotlib cannot parse or lay out shows only then."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=40)
    return stream.getvalue()


def pictures(labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


def heights(figure: Figure) -> list[float]:
    return [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]


def test_the_distribution_counts_training_images_and_known_test_labels() -> None:
    images = pictures(["LY"] * 3 + ["$x^$"] * 2)
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


def honesty(error: float) -> dict[str, object]:
    return {"expected_calibration_error": error, "bins": [[0.4, 0.5, 3.0], [0.9, 0.8, 7.0]]}


def legend(figure: Figure, axis: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[axis].get_legend().get_texts()]  # type: ignore[union-attr]


def test_calibration_is_drawn_before_and_after_and_for_test_images() -> None:
    fitted = {"fitted": True, "images": 10, "before": honesty(0.2), "after": honesty(0.1)}
    figure = draw.reliability(fitted, {"out_of_fold": honesty(0.1), "test": honesty(0.15)})
    assert legend(figure) == ["before: ECE 0.200", "after the temperature: ECE 0.100"]
    assert legend(figure, 1) == ["after the temperature: ECE 0.150"]
    assert [axis.get_title() for axis in figure.axes] == ["out of fold, 10 images", "test, 10 images"]
    small, large = figure.axes[0].collections[0].get_sizes()
    assert large > small and drawn(figure)


def test_calibration_without_a_temperature_or_test_labels_or_images() -> None:
    fitted = {"fitted": False, "images": 10, "before": honesty(0.2), "after": honesty(0.2)}
    figure = draw.reliability(fitted, {"out_of_fold": honesty(0.2)})
    assert len(figure.axes) == 1 and legend(figure) == ["before: ECE 0.200"] and drawn(figure)
    nothing: dict[str, object] = {"expected_calibration_error": None, "bins": []}
    assert drawn(draw.reliability({**fitted, "images": 0, "before": nothing, "after": nothing}, {}))


def test_the_kept_epoch_is_marked_in_both_curves() -> None:
    history = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [1, 2, 1, 2], "train_loss": [1.0, 0.5, 1.1, 0.4]})
    history = history.assign(held_out_loss=[1.0, 0.7, 0.9, 0.8], held_out_macro_f1=[0.3, 0.5, 0.6, 0.4])
    history = history.assign(kept=[False, True, True, False])
    figure = draw.learning_curves(history)
    for axis, values in zip(figure.axes, ([0.7, 0.9], [0.5, 0.6]), strict=True):
        dots = [line for line in axis.lines if line.get_marker() == "o" and len(line.get_xdata())]
        assert [tuple(dot.get_xydata()[0]) for dot in dots] == [(2, values[0]), (1, values[1])]
    assert drawn(figure)


def test_a_recipe_that_trains_nothing_has_curves_too() -> None:
    history = pd.DataFrame({"fold": [0], "epoch": [1], "train_loss": [np.nan], "held_out_loss": [1.0], "kept": [True]})
    assert drawn(draw.learning_curves(history.assign(held_out_macro_f1=0.4)))
