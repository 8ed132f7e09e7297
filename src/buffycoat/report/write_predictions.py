"""Step `write_predictions`: one row per image of the data set, whatever happened to it, and the submission."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from buffycoat.core.files import whole_file
from buffycoat.core.steps import run
from buffycoat.data.labels import class_numbers, labelled
from buffycoat.data.pages import FORMULA_STARTS, quoting_of
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import CLASSES, IMAGES, LABELS, class_codes
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.refine import REFINED_LABELS
from buffycoat.data.tables.report import PREDICTIONS
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.schema import require_same_keys

log = logging.getLogger("buffycoat")


def join_predictions(
    images: pd.DataFrame, refined: pd.DataFrame, probabilities: pd.DataFrame, codes: list[str]
) -> pd.DataFrame:
    """Return one row per image with its status, label, probability and reason.

    `images` are those of `data.labels.labelled`, `refined` are the refined labels.
    """
    frame = images[["image_id", "path", "role", "label", "label_status", "label_reason"]]
    frame = frame.rename(columns={"label": "given_label", "label_status": "status", "label_reason": "reason"})
    told = refined[["image_id", "label", "base_label", "changed", "reason"]].rename(columns={"reason": "why"})
    frame = frame.merge(told, on="image_id", how="left", validate="one_to_one")
    frame = frame.merge(probabilities, on="image_id", how="left", validate="one_to_one")
    place = frame["label"].map(class_numbers(codes))
    values = frame[codes].to_numpy(np.float64)
    known = place.notna().to_numpy()
    frame["probability"] = np.nan
    frame.loc[known, "probability"] = values[np.flatnonzero(known), place[known].astype(int)]
    why = frame["why"].fillna("")
    frame["reason"] = frame["reason"].where(why == "", (frame["reason"] + " " + why).str.strip())
    frame["changed"] = frame["changed"].astype("boolean").fillna(False)
    return frame


def submission_rows(predictions: pd.DataFrame, commonest: str) -> list[tuple[str, str]]:
    """Return (ID, label) of every test image in the order of the source.

    A file without pixels has no prediction, but the challenge wants a class in every row: it gets the commonest one.
    """
    tested = predictions[predictions["role"] == "test"]
    lost = tested[tested["label"].isna()]
    if not lost.empty:
        log.warning(
            "%d test images have no pixels (%s ...): the submission gives them the commonest class, %s",
            len(lost), lost["image_id"].iloc[0], commonest,
        )  # fmt: skip
    return list(zip(tested["image_id"], tested["label"].fillna(commonest), strict=True))


def write_submission(rows: list[tuple[str, str]], path: Path) -> None:
    """Write `ID,labels`, one row per test image, all exactly as given: whoever marks the file compares them.

    So an ID or label that a spreadsheet would take for a formula is not disarmed but named in a warning.
    """
    formulas = [text for row in rows for text in row if text.startswith(FORMULA_STARTS)]
    if formulas:
        log.warning(
            "%s: %d IDs or labels begin as a formula does (%r ...): do not open this file in a spreadsheet",
            path, len(formulas), formulas[0],
        )  # fmt: skip
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        quoting = quoting_of(text for row in rows for text in row)
        writer = csv.writer(stream, lineterminator="\n", quoting=quoting)
        writer.writerow(("ID", "labels"))
        writer.writerows(rows)


def write_predictions(
    *, images: Path, labels: Path, classes: Path, crops: Path, noise: Path, cells: Path, probabilities: Path,
    refined_labels: Path, predictions: Path, submission: Path,
) -> None:  # fmt: skip
    """Write the table of predictions and the submission; every image of the data set has exactly one row."""
    class_table = CLASSES.read(classes)
    codes = class_codes(class_table)
    image_rows, refined = labelled(IMAGES.read(images), LABELS.read(labels)), REFINED_LABELS.read(refined_labels)
    frame = join_predictions(image_rows, refined, PROBABILITIES.read(probabilities), codes)
    for table, path, column, name in (
        (CROPS, crops, "found", "cell_found"),
        (NOISE, noise, "noisy", "noisy"),
        (CELLS, cells, "restored", "restored"),
    ):
        values = table.read(path).set_index("image_id")[column]
        frame[name] = frame["image_id"].map(values).astype("boolean")
    require_same_keys(frame["image_id"], image_rows["image_id"], str(predictions))
    PREDICTIONS.write(frame[[column.name for column in PREDICTIONS.columns]], predictions)
    commonest = str(class_table.sort_values("images", ascending=False)["code"].iloc[0])
    write_submission(submission_rows(frame, commonest), submission)
    log.info(
        "%d images in, %d rows out, %d without a prediction", len(image_rows), len(frame), frame["label"].isna().sum()
    )


if __name__ == "__main__":
    run(write_predictions)
