"""Step `draw_figures`: the report's figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from buffycoat.core.files import read_json, whole_folder
from buffycoat.core.steps import run
from buffycoat.data.cell_types import name_of
from buffycoat.data.labels import trainable
from buffycoat.data.tables.classify import TRAINING_HISTORY
from buffycoat.data.tables.index import CLASSES, IMAGES, LABELS, TEST_LABELS, class_codes
from buffycoat.data.tables.report import CONFUSION
from buffycoat.data.tables.restore import GAN_HISTORY

matplotlib.use("Agg")
# A user's class may be called anything, also '$': labels are text, never formulas.
matplotlib.rcParams["text.parse_math"] = False

DPI = 110
"""Resolution of the figures, dots per inch: sharp on the page, and the page stays small."""
INK, BLUE, ORANGE, GREY = "#22303c", "#35618f", "#c8722c", "#9aa5b1"


def _axes(width: float, height: float, columns: int | tuple[float, ...] = 1) -> tuple[Figure, Any]:
    """Return a figure and its axes in one row; `columns` is their number, or their relative widths."""
    figure = Figure(figsize=(width, height), layout="constrained")
    widths = (1.0,) * columns if isinstance(columns, int) else columns
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    return figure, axes


def class_distribution(learned: pd.DataFrame, test_labels: pd.DataFrame, codes: list[str]) -> Figure:
    """Return Fig. 1 of the paper: images per class, training beside test, on a logarithmic axis.

    `learned` are the images that are learned from, with their label.
    """
    counts = {"training": learned["label"].value_counts().reindex(codes, fill_value=0)}
    if not test_labels.empty:
        counts["test (known labels)"] = test_labels["label"].value_counts().reindex(codes, fill_value=0)
    order = counts["training"].sort_values(ascending=False, kind="stable").index
    figure, (axis,) = _axes(8, 3.4)
    width = 0.8 / len(counts)
    for place, (name, values) in enumerate(counts.items()):
        x = np.arange(len(order)) + (place - (len(counts) - 1) / 2) * width
        bars = axis.bar(x, values[order], width, label=name, color=(BLUE, ORANGE)[place])
        axis.bar_label(bars, fontsize=6.5, padding=1, color=INK)
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_xticks(
        range(len(order)), [f"{name_of(code)}\n{code}" for code in order], rotation=38, ha="right", fontsize=7
    )
    axis.set_ylabel("images", fontsize=8)
    axis.legend(fontsize=8, frameon=False)
    return figure


def noise_histogram(threshold: dict[str, Any]) -> Figure:
    """Return the histograms of noise, blur and light of all crops, each with its threshold; flagged bars in orange."""
    figure, (noise, blur, light) = _axes(9.6, 2.9, (1.6, 1, 1))
    over = {"field": "cell and surroundings", "cell": "cell"}[threshold["measured_over"]]
    _flagged_bars(noise, threshold["histogram"], threshold["level"], f"noisy from {threshold['level']:.1f}")
    noise.set_xscale("log")
    noise.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    noise.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    noise.xaxis.set_minor_formatter(NullFormatter())
    noise.set_xlabel(f"noise over {over}, grey levels", fontsize=8)
    part = threshold["blur"]
    _flagged_bars(blur, part["histogram"], part["level"], f"blurred from {part['level']:.2f}")
    blur.set_xlabel("blur score, 0 (sharp) to 1 (blurred)", fontsize=8)
    part = threshold["light"]
    _flagged_bars(light, part["histogram"], part["level"], f"badly lit from {part['level']:.1f}")
    light.set_xlabel("deviation of the light, robust SDs", fontsize=8)
    noise.set_ylabel("crops", fontsize=8)
    return figure


def _flagged_bars(axis: Any, histogram: dict[str, Any], level: float, text: str) -> None:
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    # A bar counts as flagged where its middle does: the threshold may lie inside it.
    flagged = (edges[:-1] + edges[1:]) / 2 >= level
    axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=np.where(flagged, ORANGE, BLUE))
    axis.axvline(level, color=INK, lw=1, ls="--")
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_title(text, fontsize=8, color=INK, loc="left")


def learning_curves(history: pd.DataFrame) -> Figure:
    """Return loss and held-out macro-F1 of each fold against the epoch; the kept epoch is marked in both."""
    figure, (left, right) = _axes(8.4, 3.0, 2)
    # A line of one or two epochs would hardly be seen.
    marker = "." if history["epoch"].nunique() < 4 else ""
    for fold, rows in history.groupby("fold"):
        left.plot(rows["epoch"], rows["train_loss"], color=BLUE, alpha=0.7, lw=1, marker=marker)
        left.plot(rows["epoch"], rows["held_out_loss"], color=ORANGE, alpha=0.7, lw=1, marker=marker)
        right.plot(rows["epoch"], rows["held_out_macro_f1"], lw=1.2, marker=marker, label=f"fold {fold}")
        kept = rows[rows["kept"]]
        for axis, column in ((left, "held_out_loss"), (right, "held_out_macro_f1")):
            axis.plot(kept["epoch"], kept[column], "o", ms=4, color=INK)
    left.plot([], [], color=BLUE, label="training loss, as the recipe defines it")
    left.plot([], [], color=ORANGE, label="held-out cross-entropy")
    right.plot([], [], "o", ms=4, color=INK, label="kept")
    for axis, name in ((left, "loss"), (right, "held-out macro-F1, one view")):
        axis.legend(fontsize=7, frameon=False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("epoch", fontsize=8)
        axis.set_ylabel(name, fontsize=8)
    return figure


def gan_curves(history: pd.DataFrame) -> Figure:
    """Return the losses of Pix2Pix and the PSNR of held-out pairs against the step."""
    figure, (left, right) = _axes(8.4, 2.7, 2)
    for name in ("G_GAN", "G_L1", "G_features", "D_real", "D_fake"):
        left.plot(history["step"], history[name], lw=1.2, label=name)
    for name, colour in (("psnr_noisy", GREY), ("psnr_median", ORANGE), ("psnr_restored", BLUE)):
        right.plot(history["step"], history[name], lw=1.4, color=colour, label=name.removeprefix("psnr_"))
    for axis, name in ((left, "loss"), (right, "PSNR of held-out crops, dB")):
        axis.set_xlabel("step", fontsize=8)
        axis.set_ylabel(name, fontsize=8)
        axis.legend(fontsize=7, frameon=False)
    return figure


def confusion_figure(confusions: pd.DataFrame, part: str, codes: list[str]) -> Figure:
    """Return the confusion matrices of a part before and after refinement: colour by row share, numbers in images."""
    figure, axes = _axes(11, max(5.2, 0.3 * len(codes)), 2)
    for axis, (phase, title) in zip(axes, (("branch_a", "before refinement"), ("phase_3", "after")), strict=True):
        rows = confusions[(confusions["part"] == part) & (confusions["phase"] == phase)]
        table = rows.pivot(index="true", columns="predicted", values="images").reindex(index=codes, columns=codes)
        matrix = table.to_numpy(float)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, col), count in np.ndenumerate(matrix):
            if count:
                ink = "white" if share[row, col] > 0.55 else INK
                axis.text(col, row, f"{int(count)}", ha="center", va="center", fontsize=6.5, color=ink)
        axis.set_xticks(range(len(codes)), codes, rotation=90)
        axis.set_yticks(range(len(codes)), codes)
        axis.set_xlabel("predicted", fontsize=8)
        axis.set_ylabel("expert", fontsize=8)
        axis.set_title(title, fontsize=9, color=INK)
    return figure


def reliability(fitted: dict[str, Any], parts: dict[str, Any]) -> Figure:
    """Return accuracy against confidence: out of fold before and after the temperature, and on test images.

    `fitted` is calibration.json; `parts` the summary's calibration by part, of the probabilities as they are used.
    """
    tested = "test" in parts
    figure, axes = _axes(7.2 if tested else 3.8, 3.7, 1 + tested)
    after = [("after", BLUE, "after the temperature")] if fitted["fitted"] else []
    lines = [(fitted[key], colour, name) for key, colour, name in (("before", ORANGE, "before"), *after)]
    _reliability_lines(axes[0], lines, f"out of fold, {fitted['images']} images")
    if tested:
        name = "after the temperature" if fitted["fitted"] else "before"
        images = int(sum(row[2] for row in parts["test"]["bins"]))
        colour = BLUE if fitted["fitted"] else ORANGE
        _reliability_lines(axes[1], [(parts["test"], colour, name)], f"test, {images} images")
    return figure


def _reliability_lines(axis: Any, lines: list[tuple[dict[str, Any], str, str]], title: str) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for entry, colour, name in lines:
        if entry["bins"]:
            bins = np.array(entry["bins"])
            # The area of a dot is the share of images in its bin: the far bins are often nearly empty.
            sizes = 4 + 180 * bins[:, 2] / bins[:, 2].sum()
            axis.plot(bins[:, 0], bins[:, 1], lw=0.8, alpha=0.5, color=colour)
            label = f"{name}: ECE {entry['expected_calibration_error']:.3f}"
            axis.scatter(bins[:, 0], bins[:, 1], s=sizes, color=colour, alpha=0.75, lw=0)
            axis.plot([], [], "o-", ms=4, color=colour, label=label)
    axis.set(xlim=(0, 1.03), ylim=(-0.02, 1.05), aspect="equal")
    axis.set_title(title, fontsize=9, color=INK)
    axis.set_xlabel("confidence", fontsize=8)
    axis.set_ylabel("share that is right", fontsize=8)
    if any(entry["bins"] for entry, *_ in lines):
        axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17))


def robustness_curves(table: pd.DataFrame) -> Figure:
    """Return macro-F1 against severity, an axis per degradation, with intervals; `table` is of kind ROBUSTNESS."""
    rows = table[table["metric"] == "macro_f1"]
    plain = rows[rows["kind"] == "none"]
    kinds = [str(kind) for kind in rows["kind"].unique() if kind != "none"]
    figure, axes = _axes(2.4 * len(kinds) + 0.8, 2.8, len(kinds))
    for axis, kind in zip(axes, kinds, strict=True):
        points = pd.concat([plain, rows[rows["kind"] == kind].sort_values("severity")])
        axis.axhline(float(plain["value"].iloc[0]), color=GREY, linewidth=1, linestyle="--")
        axis.fill_between(points["severity"], points["low"], points["high"], color=BLUE, alpha=0.18, linewidth=0)
        axis.plot(points["severity"], points["value"], color=BLUE, marker="o", markersize=3, linewidth=1.4)
        axis.set_ylim(0, 1)
        axis.set_xlabel("severity", fontsize=8)
        axis.set_title(kind.replace("_", " "), fontsize=9, color=INK)
    axes[0].set_ylabel("macro-F1", fontsize=8)
    return figure


def draw_figures(
    *, images: Path, labels: Path, classes: Path, test_labels: Path, threshold: Path, histories: list[Path],
    confusions: Path, summary: Path, calibration: Path, gan_history: list[Path] | None = None, figures: Path,
) -> None:  # fmt: skip
    """Draw every figure into the folder `figures`, as PNG."""
    codes = class_codes(CLASSES.read(classes))
    learned, confusion_rows = trainable(IMAGES.read(images), LABELS.read(labels)), CONFUSION.read(confusions)
    curves = pd.concat([TRAINING_HISTORY.read(path) for path in histories], ignore_index=True)
    drawn: dict[str, Figure] = {
        "class_distribution": class_distribution(learned, TEST_LABELS.read(test_labels), codes),
        "noise_histogram": noise_histogram(read_json(threshold)),
        "learning_curves": learning_curves(curves),
        "reliability": reliability(read_json(calibration), read_json(summary)["calibration"]),
    }
    for part in sorted(set(confusion_rows["part"])):
        drawn[f"confusion_{part}"] = confusion_figure(confusion_rows, part, codes)
    for path in gan_history or []:
        drawn["gan_curves"] = gan_curves(GAN_HISTORY.read(path))
    with whole_folder(figures) as folder:
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=DPI)


if __name__ == "__main__":
    run(draw_figures)
