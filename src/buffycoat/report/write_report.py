"""Step `write_report`: everything a person wants to see, on one page that needs no network."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd

from buffycoat.core.files import read_json
from buffycoat.core.steps import run
from buffycoat.data.clean_pairs import against_clean_forms
from buffycoat.data.drawn import note_on
from buffycoat.data.labels import labelled
from buffycoat.data.pages import file_address, write_page
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import CLASSES, IMAGES, LABELS, TEST_LABELS, class_codes
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import METRICS, PREDICTIONS
from buffycoat.data.tables.restore import CELLS, REFUSED
from buffycoat.report import sections, understood
from buffycoat.report.cards import Cards

log = logging.getLogger("buffycoat")
SAMPLE_CELLS = 10
"""Cells shown on their way through the pipeline."""
CHANGED_CARDS, NEAR_MISSES = 60, 12
"""Changed labels shown with picture and reason, and unchanged ones that one check alone kept from a change, at most."""
GALLERY = 40
"""Wrongly labelled cells shown, at most."""
SOFTWARE = (
    "buffycoat",
    "torch",
    "timm",
    "open_clip_torch",
    "cellpose",
    "scikit-learn",
    "numpy",
    "pyarrow",
    "snakemake",
)


def versions() -> dict[str, str]:
    """Return the version of Python and of each package that results depend on."""
    return {"python": platform.python_version(), **{name: version_of(name) for name in SOFTWARE}}


def version_of(package: str) -> str:
    """Return a package's version; a step's own environment may lack what other steps use, such as Cellpose."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed where this page was made"


def without_folders(setting: Any) -> Any:
    """Return a configuration whose absolute paths are cut to their last part, as a page may be passed on."""
    if isinstance(setting, dict):
        return {name: without_folders(value) for name, value in setting.items()}
    if isinstance(setting, list):
        return [without_folders(value) for value in setting]
    if isinstance(setting, str) and (PurePosixPath(setting).is_absolute() or PureWindowsPath(setting).is_absolute()):
        return f".../{PureWindowsPath(setting).name}"
    return setting


def known_labels(images: pd.DataFrame, test_labels: pd.DataFrame) -> pd.Series:
    """Return the expert's label by image_id: of training images, and of test images where it is known.

    `images` are those of `data.labels.labelled`.
    """
    usable = images[images["label_status"] == "ok"].dropna(subset=["label"])
    both = pd.concat([usable[["image_id", "label"]], test_labels[["image_id", "label"]]])
    return pd.Series(both["label"].to_numpy(object), index=both["image_id"])


def recovered_patients(config: dict[str, Any]) -> bool:
    """Return whether the groups are pseudo-patients, recovered from the order of the IDs."""
    return bool(config.get("index", {}).get("make_labels", {}).get("groups") == "pseudo_patients")


def score_content(metrics: pd.DataFrame, summary: dict[str, Any], codes: list[str]) -> dict[str, Any]:
    """Return the tables of scores."""
    parts = list(summary["headline"])
    return {
        "summary": summary,
        "parts": parts,
        "without_patients": [part.replace("_", "-") for part in parts if summary["clusters"][part] != "patients"],
        "fold_table": sections.fold_table(metrics),
        "each_fold": sections.each_fold(metrics),
        "verdicts": {part: sections.verdict(summary["gains"][part]["phase_3 - branch_a"]) for part in parts},
        "phase_tables": {part: sections.phase_table(metrics, summary["gains"][part], part) for part in parts},
        "class_tables": {part: sections.class_table(metrics, part, codes) for part in parts},
    }


def data_content(predictions: pd.DataFrame, index_summary: dict[str, Any], receipt: dict[str, Any]) -> dict[str, Any]:
    """Return what came in, what came out, and what was wrong with it."""
    bad = predictions[predictions["status"] != "ok"]
    return {
        "index": index_summary,
        "receipt": receipt,
        "rows_out": len(predictions),
        "without": int(predictions["label"].isna().sum()),
        "bad": bad[["image_id", "status", "reason"]].head(50).to_dict("records"),
        "bad_count": len(bad),
        "not_found": int((~predictions["cell_found"].fillna(True).astype(bool)).sum()),
        "noisy": int(predictions["noisy"].fillna(False).sum()),
        "restored": int(predictions["restored"].fillna(False).sum()),
        "changed": int(predictions["changed"].fillna(False).sum()),
    }


def cell_content(
    images: pd.DataFrame, known: pd.Series, cells: sections.Cells, cell_table: pd.DataFrame, labels: pd.DataFrame,
    branches: list[pd.DataFrame], codes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Return the pictures: cells on their way, changed labels and near misses, wrong labels."""
    side = sections.THUMBNAIL_PX
    samples = sections.choose_samples(images, cell_table, SAMPLE_CELLS)
    reasons = cell_table.set_index("image_id")["reason"]
    cards = Cards(known, branches, codes, cells, side)
    return {
        "samples": sections.pipeline_rows(samples, images, cells, reasons, side),
        "cards": cards.changed(labels, CHANGED_CARDS),
        "nearly": cards.near_misses(labels, NEAR_MISSES),
        "near_misses": int(labels["near_miss"].notna().sum()),
        "wrong": sections.wrong_cells(labels, known, branches[0], codes, cells, GALLERY, side),
        "uncertain": sections.uncertain_cells(labels, known, branches[0], codes, cells, GALLERY, side),
    }


def write_report(
    *, images: Path, labels: Path, test_labels: Path, classes: Path, index_summary: Path, receipt: Path, crops: Path,
    cells: Path, refused: Path, probabilities: Path, head_probabilities: Path, refined_labels: Path, rules: Path,
    metrics: Path, summary: Path, predictions: Path, calibration: Path, figures: Path,
    gan_samples: list[Path] | None = None, config: str, report: Path,
) -> None:  # fmt: skip
    """Write the report as one HTML file."""
    codes = class_codes(CLASSES.read(classes))
    image_rows = labelled(IMAGES.read(images), LABELS.read(labels))
    label_rows, cell_rows = REFINED_LABELS.read(refined_labels), CELLS.read(cells)
    branches = [PROBABILITIES.read(path).set_index("image_id") for path in (probabilities, head_probabilities)]
    answers, crop_rows, told = TEST_LABELS.read(test_labels), CROPS.read(crops), read_json(index_summary)
    known, predicted = known_labels(image_rows, answers), PREDICTIONS.read(predictions)
    pictures = sections.Cells(crop_rows, crops, cell_rows, cells)
    content = {
        "codes": codes,
        "figures": {file.stem: file_address(file) for file in sorted(figures.glob("*.png"))},
        "gan_samples": [file_address(path) for path in gan_samples or []],
        "training": sections.training_words(json.loads(config)),
        "calibration": sections.calibration_words(read_json(calibration)),
        "rules": read_json(rules)["rules"],
        "reference": json.dumps(read_json(rules), indent=1),
        "recovered_patients": recovered_patients(json.loads(config)),
        "note": note_on(json.loads(config).get("data")),
        "config": json.dumps(without_folders(json.loads(config)), indent=1),
        "versions": versions(),
        **score_content(METRICS.read(metrics), read_json(summary), codes),
        **data_content(predicted, told, read_json(receipt)),
        **understood.content(image_rows, predicted, set(answers["image_id"]), codes, crop_rows, pictures, told),
        **cell_content(image_rows, known, pictures, cell_rows, label_rows, branches, codes),
        **sections.content(cell_rows, pictures, REFUSED.read(refused), refused),
        "clean_forms": against_clean_forms(image_rows, cell_rows, pictures.crops, pictures.cells, crop_rows),
    }
    write_page("report.html.j2", content, report)
    log.info("report: %s (%.1f MB)", report, report.stat().st_size / 1e6)


if __name__ == "__main__":
    run(write_report)
