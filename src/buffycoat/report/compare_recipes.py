"""Step `compare_recipes`: branch A's recipes, restorations before and steps after it, with paired intervals."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from buffycoat.errors import InputError
from buffycoat.files import read_json, whole_file
from buffycoat.report import comparison_page
from buffycoat.report.comparing import (
    Way,
    best_classes,
    one_view_of_all_folds,
    one_view_of_each_fold,
    score_single_folds,
    score_ways,
)
from buffycoat.report.pages import write_page
from buffycoat.report.parts import clusters_of, rows_of_parts
from buffycoat.report.settings import CompareRecipes
from buffycoat.steps import run
from buffycoat.tables.ablation import ABLATION
from buffycoat.tables.alternatives import ALTERNATIVES
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.folds import FOLDS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.logits import LOGITS
from buffycoat.tables.probabilities import PROBABILITIES
from buffycoat.tables.schema import require_same_keys
from buffycoat.tables.test_labels import TEST_LABELS

log = logging.getLogger("buffycoat")


def labelled_parts(images: Path, test_labels: Path, folds: Path, ids: pd.Series) -> dict[str, pd.DataFrame]:
    """Return the images of each part with image_id, group and true label; `ids` are those that were predicted."""
    image_rows, answers = IMAGES.read(images), TEST_LABELS.read(test_labels).set_index("image_id")["label"]
    frame = image_rows.loc[image_rows["image_id"].isin(ids), ["image_id", "group", "role"]]
    return rows_of_parts(frame.assign(answer=frame["image_id"].map(answers)), image_rows, FOLDS.read(folds))


def read_ways(
    recipes: list[str], probabilities: list[Path], logits: pd.DataFrame, temperature: float, codes: list[str]
) -> list[Way]:
    """Return the ways that are compared: the main recipe from one view, then every recipe from all views.

    Raises InputError where a recipe's table holds other images than the main one's.
    """
    if len(recipes) != len(probabilities):
        raise InputError(f"{len(recipes)} recipes, but {len(probabilities)} tables of probabilities: give one for each")
    tables = [PROBABILITIES.read(path) for path in probabilities]
    for table, path in zip(tables, probabilities, strict=True):
        require_same_keys(table["image_id"], tables[0]["image_id"], str(path))
    ways = [Way(recipes[0], "one_view", one_view_of_all_folds(logits, codes, temperature))]
    pairs = zip(recipes, tables, strict=True)
    return ways + [Way(recipe, "all_views", best_classes(table, codes)) for recipe, table in pairs]


def read_restorations(names: list[str], paths: list[Path], ids: pd.Series, codes: list[str]) -> list[Way]:
    """Return the main recipe on cells restored otherwise; raises InputError where one holds other images than `ids`."""
    if len(names) != len(paths):
        raise InputError(f"{len(names)} restorations, but {len(paths)} tables of probabilities: give one for each")
    ways = []
    for name, path in zip(names, paths, strict=True):
        table = PROBABILITIES.read(path)
        require_same_keys(table["image_id"], ids, str(path))
        ways.append(Way(name, "restored", best_classes(table, codes)))
    return ways


def read_alternatives(path: Path, ids: pd.Series, codes: list[str]) -> list[Way]:
    """Return what is done after branch A, way by way; raises InputError where one holds other images than `ids`."""
    table = ALTERNATIVES.read(path)
    numbers = table["label"].map({code: number for number, code in enumerate(codes)})
    if numbers.isna().any():
        raise InputError(f"{path}: {table.loc[numbers.isna(), 'label'].iloc[0]!r} is no class here; run it again")
    ways = []
    for name, rows in table.assign(number=numbers).groupby("way", sort=False):
        require_same_keys(rows["image_id"], ids, f"{path}, way {name}")
        ways.append(Way(str(name), "after", rows.set_index("image_id")["number"]))
    return ways


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per recipe and variant, a column per part and overall score: what a spreadsheet wants."""
    rows = table[table["class"] == "all"]
    values = ("value", "sd", "low", "high", "difference", "difference_low", "difference_high")
    found: dict[tuple[str, str], dict[str, object]] = {}
    for row in rows.to_dict("records"):
        entry = found.setdefault((row["recipe"], row["variant"]), {})
        for name in values:
            suffix = "" if name == "value" else f"_{name}"
            entry[f"{row['part']}_{row['metric']}{suffix}"] = row[name]
    records = [{"recipe": recipe, "variant": variant, **entry} for (recipe, variant), entry in found.items()]
    return pd.DataFrame(records).dropna(axis="columns", how="all")


def compare_recipes(
    *, images: Path, test_labels: Path, classes: Path, folds: Path, recipes: list[str], probabilities: list[Path],
    logits: list[Path], calibration: Path, alternatives: Path, restorations: list[str] | None = None,
    restored: list[Path] | None = None, ablation: Path, csv: Path, page: Path, seed: int, settings: CompareRecipes,
) -> None:  # fmt: skip
    """Score each recipe out of fold and on the test images whose label is known; the first recipe is the main one.

    `probabilities`: a table per recipe, in the same order; `logits` (one per fold) and `calibration`: the main one's;
    `alternatives`: what is done after it; `restored`: the main recipe's table by restoration that is not the run's.
    """
    codes = class_codes(CLASSES.read(classes))
    rows_of_logits = pd.concat([LOGITS.read(path) for path in logits], ignore_index=True)
    temperature = float(read_json(calibration).get("temperature", 1.0))
    ways = read_ways(recipes, probabilities, rows_of_logits, temperature, codes)
    ids = pd.Series(ways[0].numbers.index)
    ways += read_restorations(restorations or [], restored or [], ids, codes)
    ways += read_alternatives(alternatives, ids, codes)
    of_fold = one_view_of_each_fold(rows_of_logits, codes)
    parts = labelled_parts(images, test_labels, folds, ids)
    scored = []
    for part, rows in parts.items():
        scored += score_single_folds(part, recipes[0], rows, of_fold, codes)
        scored += score_ways(part, rows, ways, codes, seed, settings)
    table = pd.DataFrame(scored)
    ABLATION.write(table, ablation)
    with whole_file(csv) as partial:
        wide(table).to_csv(partial, index=False)
    units = {part: clusters_of(rows)[1] for part, rows in parts.items()}
    write_page("ablation.html.j2", comparison_page.content(table, ways, codes, units, settings), page)
    log.info("ablation: %d lines: %s", len(ways) + 1, page)


if __name__ == "__main__":
    run(compare_recipes)
