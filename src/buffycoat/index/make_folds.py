"""Step `make_folds`: which fold holds out which image, and the receipt that no group sits in two folds."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.steps import run
from buffycoat.data.labels import trainable
from buffycoat.data.random import stream_seed
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes
from buffycoat.index.settings import MakeFolds

log = logging.getLogger("buffycoat")


def fault_of_folds(groups: pd.Series, largest: int, folds: int) -> str:
    """Return why images of these groups cannot be divided; empty where they can. A gap is a group of its own.

    `largest`: images of the most frequent class.
    """
    found = groups.nunique() + int(groups.isna().sum())
    if found < folds:
        return (
            f"index.make_folds.folds: {folds} folds need at least {folds} groups (patients), found {found};"
            " set fewer folds, or index.make_labels.groups: none if images of one patient may be divided"
        )
    if largest < folds:
        return f"index.make_folds.folds: {folds} folds, but no class has more than {largest} images; set fewer folds"
    return ""


def assign_folds(rows: pd.DataFrame, folds: int, seed: int) -> pd.DataFrame:
    """Return image_id and fold of trainable rows, by scikit-learn's StratifiedGroupKFold.

    Rows without a group are groups of their own. Raises InputError where there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = rows["group"].where(rows["group"].notna(), "image:" + rows["image_id"])
    if fault := fault_of_folds(rows["group"], int(rows["label"].value_counts().max()), folds):
        raise InputError(fault)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=stream_seed(seed, "folds") % 2**32)
    fold = pd.Series(-1, index=rows.index)
    with warnings.catch_warnings():
        # A class with fewer images than folds is not an error here: the receipt names it.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, held_out) in enumerate(splitter.split(rows, rows["label"], groups)):
                fold.iloc[held_out] = number
        except ValueError as problem:
            raise InputError(f"index.make_folds.folds: {problem}; set fewer folds") from None
    return pd.DataFrame({"image_id": rows["image_id"], "fold": fold.astype("int32")})


def receipt_of(rows: pd.DataFrame, assigned: pd.DataFrame, codes: list[str], seed: int) -> dict[str, Any]:
    """Return what the folds hold: images, groups, classes, classes missing, groups in two folds (must be none)."""
    frame = rows.merge(assigned, on="image_id", validate="one_to_one")
    known = frame["group"].notna()
    shared = frame[known].groupby("group")["fold"].nunique()
    per_fold = []
    for fold, held in frame.groupby("fold"):
        learned = frame[frame["fold"] != fold]
        per_fold.append(
            {
                "fold": int(str(fold)),
                "images": len(held),
                "groups": int(held["group"].nunique()) if known.all() else None,
                "classes": {code: int((held["label"] == code).sum()) for code in codes},
                "not_held_out": [code for code in codes if code not in set(held["label"])],
                "not_learned": [code for code in codes if code not in set(learned["label"])],
            }
        )
    return {
        "method": "StratifiedGroupKFold",
        "seed": seed,
        "images": len(frame),
        "groups": int(frame["group"].nunique()) if known.all() else None,
        "groups_in_two_folds": int((shared > 1).sum()),
        "note": ""
        if known.all()
        else f"{int((~known).sum())} of {len(frame)} images have no group: each is a group of its own, so cells of one"
        " patient may stand on both sides and the out-of-fold scores may be optimistic",
        "folds": per_fold,
    }


def log_receipt(receipt: dict[str, Any]) -> None:
    """Log the receipt, a line per fold."""
    log.info(
        "folds: %d images, %s groups, %d groups in two folds",
        receipt["images"], receipt["groups"] or "no", receipt["groups_in_two_folds"],
    )  # fmt: skip
    if receipt["note"]:
        log.warning("%s", receipt["note"])
    for entry in receipt["folds"]:
        missing = f"; not held out: {', '.join(entry['not_held_out'])}" if entry["not_held_out"] else ""
        missing += f"; NOT LEARNED: {', '.join(entry['not_learned'])}" if entry["not_learned"] else ""
        groups = f", {entry['groups']} groups" if entry["groups"] is not None else ""
        log.info("fold %d: %d images%s%s", entry["fold"], entry["images"], groups, missing)


def make_folds(
    *, images: Path, labels: Path, classes: Path, folds: Path, receipt: Path, seed: int, settings: MakeFolds,
) -> None:  # fmt: skip
    """Divide the trainable images into folds by group, and store the receipt."""
    rows = trainable(IMAGES.read(images), LABELS.read(labels))
    assigned = assign_folds(rows, settings.folds, seed)
    stored = receipt_of(rows, assigned, class_codes(CLASSES.read(classes)), seed)
    if stored["groups_in_two_folds"]:
        raise RuntimeError(f"{stored['groups_in_two_folds']} groups sit in two folds; this must not happen")
    log_receipt(stored)
    FOLDS.write(assigned, folds)
    write_json(stored, receipt)


if __name__ == "__main__":
    run(make_folds)
