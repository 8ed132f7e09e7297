"""Step `draw_figures`: the report's figures as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from buffycoat.files import read_json, whole_folder
from buffycoat.report import figures as draw
from buffycoat.report.settings import DrawFigures
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.confusion import CONFUSION
from buffycoat.tables.gan_history import GAN_HISTORY
from buffycoat.tables.images import IMAGES
from buffycoat.tables.test_labels import TEST_LABELS
from buffycoat.tables.training_history import TRAINING_HISTORY


def draw_figures(
    *, images: Path, classes: Path, test_labels: Path, threshold: Path, histories: list[Path], confusions: Path,
    summary: Path, calibration: Path, gan_history: list[Path] | None = None, figures: Path, settings: DrawFigures,
) -> None:  # fmt: skip
    """Draw every figure into the folder `figures`, as PNG."""
    codes = class_codes(CLASSES.read(classes))
    confusion_rows = CONFUSION.read(confusions)
    curves = pd.concat([TRAINING_HISTORY.read(path) for path in histories], ignore_index=True)
    drawn: dict[str, Figure] = {
        "class_distribution": draw.class_distribution(IMAGES.read(images), TEST_LABELS.read(test_labels), codes),
        "noise_histogram": draw.noise_histogram(read_json(threshold)),
        "learning_curves": draw.learning_curves(curves),
        "reliability": draw.reliability(read_json(calibration), read_json(summary)["calibration"]),
    }
    for part in sorted(set(confusion_rows["part"])):
        drawn[f"confusion_{part}"] = draw.confusion_figure(confusion_rows, part, codes)
    for path in gan_history or []:
        drawn["gan_curves"] = draw.gan_curves(GAN_HISTORY.read(path))
    with whole_folder(figures) as folder:
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", dpi=settings.dpi)


if __name__ == "__main__":
    run(draw_figures)
