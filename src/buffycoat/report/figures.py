"""The report's figures, each a function from frames to a matplotlib figure."""

from __future__ import annotations

from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter  # noqa: E402

from buffycoat.cell_types import name_of  # noqa: E402

# A user's class may be called anything, also '$': labels are text, never formulas.
matplotlib.rcParams["text.parse_math"] = False
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


def class_distribution(images: pd.DataFrame, test_labels: pd.DataFrame, codes: list[str]) -> Figure:
    """Return Fig. 1 of the paper: images per class, training beside test, on a logarithmic axis."""
    usable = images[(images["role"] == "train") & (images["status"] == "ok")]
    counts = {"training": usable["label"].value_counts().reindex(codes, fill_value=0)}
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
    """Return loss and held-out macro-F1 of each fold against the epoch; the kept epoch is marked."""
    figure, (left, right) = _axes(8.4, 2.9, 2)
    for fold, rows in history.groupby("fold"):
        left.plot(rows["epoch"], rows["train_loss"], color=BLUE, alpha=0.7, lw=1)
        left.plot(rows["epoch"], rows["held_out_loss"], color=ORANGE, alpha=0.7, lw=1)
        right.plot(rows["epoch"], rows["held_out_macro_f1"], lw=1.2, label=f"fold {fold}")
        kept = rows[rows["kept"]]
        right.plot(kept["epoch"], kept["held_out_macro_f1"], "o", ms=4, color=INK)
    left.plot([], [], color=BLUE, label="training loss")
    left.plot([], [], color=ORANGE, label="held-out cross-entropy")
    left.legend(fontsize=7, frameon=False)
    right.legend(fontsize=7, frameon=False)
    for axis, name in ((left, "loss"), (right, "held-out macro-F1, one view")):
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


def reliability(calibration: dict[str, Any]) -> Figure:
    """Return accuracy against confidence, per part."""
    figure, (axis,) = _axes(3.6, 3.2)
    axis.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for (part, entry), colour in zip(sorted(calibration.items()), (BLUE, ORANGE), strict=False):
        bins = np.array(entry["bins"])
        label = f"{part.replace('_', ' ')}, ECE {entry['expected_calibration_error']:.3f}"
        axis.plot(bins[:, 0], bins[:, 1], "o-", ms=3.5, lw=1.2, color=colour, label=label)
    axis.set_xlabel("confidence", fontsize=8)
    axis.set_ylabel("share that is right", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return figure
