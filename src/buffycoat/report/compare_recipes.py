"""Step `compare_recipes`: branch A's recipes, restorations before and steps after it, with paired intervals."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, whole_file
from buffycoat.core.settings import Statistics
from buffycoat.core.steps import run
from buffycoat.data.cell_types import name_of
from buffycoat.data.drawn import note_on
from buffycoat.data.labels import class_numbers, clusters_of, labelled, numbers_of, rows_of_parts
from buffycoat.data.methods import RESTORATION_NAMES, WAY_NAMES
from buffycoat.data.pages import write_page
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, TEST_LABELS, class_codes
from buffycoat.data.tables.refine import ALTERNATIVES
from buffycoat.data.tables.report import ABLATION
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.report.sections import recipe_words
from buffycoat.report.settings import CompareRecipes
from buffycoat.stats.scores import (
    COMPARED_SCORES,
    CONFIDENCE,
    DEFINITIONS,
    Values,
    class_intervals,
    class_scores,
    cluster_matrices,
    confusion,
    interval,
    overall_scores,
    resample,
    resampled_scores,
)

log = logging.getLogger("buffycoat")
VARIANT_NAMES = {
    "single_folds": "single folds, one view",
    "one_view": "all folds, one view",
    "all_views": "all folds, all views",
    "restored": "the main recipe, on cells restored so",
    "after": "after the main recipe",
}


@dataclass(frozen=True)
class Way:
    """A way to label images: `numbers` holds the class number by image_id."""

    recipe: str
    variant: str
    """'one_view' or 'all_views' of a recipe; 'restored': the main one, on cells restored as `recipe` says;
    'after': made of the main recipe's predictions."""
    numbers: pd.Series


def best_classes(table: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the number of the greatest class column by image_id."""
    return pd.Series(table[codes].to_numpy().argmax(axis=1), index=table["image_id"])


def one_view_of_each_fold(logits: pd.DataFrame, codes: list[str]) -> dict[int, pd.Series]:
    """Return, by fold, the class that the fold's model alone gives to each image it may judge, as it is (view 0)."""
    plain = logits[logits["view"] == 0]
    return {int(str(fold)): best_classes(rows, codes) for fold, rows in plain.groupby("fold")}


def one_view_of_all_folds(logits: pd.DataFrame, codes: list[str], temperature: float) -> pd.Series:
    """Return the class by image_id from one view: of the fold that held an image out, or of the mean over folds."""
    plain = logits[logits["view"] == 0]
    chances = softmax(plain[codes].to_numpy(np.float64) / temperature, axis=1)
    frame = pd.DataFrame(chances, columns=codes).assign(image_id=plain["image_id"].to_numpy(object))
    return best_classes(frame.groupby("image_id", sort=False)[codes].mean().reset_index(), codes)


def score_ways(
    part: str, rows: pd.DataFrame, ways: list[Way], codes: list[str], seed: int, statistics: Statistics
) -> list[dict[str, Any]]:
    """Return the scores of each way with intervals, and its differences from the main one.

    `rows` (columns image_id, group, true) are the images of the part; the main way is the first with all views.
    """
    true = numbers_of(rows["true"], codes)
    clusters, count = clusters_of(rows)[0], len(codes)
    present = np.bincount(true, minlength=count) > 0
    guesses = [way.numbers.loc[rows["image_id"]].to_numpy(np.int64) for way in ways]
    # Named like the resamples of score_labels: the same draws, so the same intervals as in the report.
    drawn = resample(
        [cluster_matrices(true, guessed, clusters, count) for guessed in guesses], statistics.resamples, seed, part
    )
    main = next(place for place, way in enumerate(ways) if way.variant == "all_views")
    base, base_drawn = overall_scores(confusion(true, guesses[main], count)), resampled_scores(drawn[main], present)
    found = []
    for way, guessed, matrices in zip(ways, guesses, drawn, strict=True):
        matrix, about = confusion(true, guessed, count), {"recipe": way.recipe, "variant": way.variant, "part": part}
        values, resampled = overall_scores(matrix), resampled_scores(matrices, present)
        for name in COMPARED_SCORES:
            entry = _entry(about, "all", name, float(values[name]), len(rows))
            entry |= _bounds("", resampled[name])
            entry["difference"] = float(values[name] - base[name])
            entry |= _bounds("difference_", resampled[name] - base_drawn[name])
            found.append(entry)
        found += _class_rows(about, matrix, matrices, codes)
    return found


def score_single_folds(
    part: str, recipe: str, rows: pd.DataFrame, of_fold: dict[int, pd.Series], codes: list[str]
) -> list[dict[str, Any]]:
    """Return mean and SD over folds of the overall scores of each fold's model by itself, as Table 1 of the paper.

    Out of fold, a model is judged on the images that its fold held out (column `fold`); otherwise on all rows.
    """
    values: dict[str, list[float]] = {name: [] for name in COMPARED_SCORES}
    for fold, numbers in of_fold.items():
        judged = rows[rows["fold"] == fold] if part == "out_of_fold" else rows
        guessed = numbers.loc[judged["image_id"]].to_numpy(np.int64)
        scores = overall_scores(confusion(numbers_of(judged["true"], codes), guessed, len(codes)))
        for name in COMPARED_SCORES:
            values[name].append(float(scores[name]))
    about = {"recipe": recipe, "variant": "single_folds", "part": part}
    return [
        _entry(about, "all", name, float(np.mean(found)), len(rows))
        | {"sd": float(np.std(found, ddof=1)) if len(found) > 1 else None}
        for name, found in values.items()
    ]


def _class_rows(about: dict[str, str], matrix: Values, matrices: Values, codes: list[str]) -> list[dict[str, Any]]:
    scores, bounds = class_scores(matrix)["f1"], class_intervals(matrices)["f1"]
    support = matrix.sum(axis=1)
    return [
        _entry(about, code, "f1", float(scores[k]), int(support[k])) | {"low": bounds[k][0], "high": bounds[k][1]}
        for k, code in enumerate(codes)
    ]


def _entry(about: dict[str, str], code: str, metric: str, value: float, support: int) -> dict[str, Any]:
    gaps = dict.fromkeys(("sd", "low", "high", "difference", "difference_low", "difference_high"))
    return {**about, "class": code, "metric": metric, "value": value, **gaps, "support": support}


def _bounds(prefix: str, values: Values) -> dict[str, float]:
    low, high = interval(values)
    return {f"{prefix}low": low, f"{prefix}high": high}


def score_text(row: dict[Any, Any]) -> str:
    """Return '0.771 [0.740, 0.800]', or '0.771 ± 0.012' for single folds."""
    if not pd.isna(row["low"]):
        return f"{row['value']:.4f} [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.4f}" + ("" if pd.isna(row["sd"]) else f" ± {row['sd']:.4f}")


def difference_text(row: dict[Any, Any]) -> str:
    """Return '+0.012 [-0.003, +0.020]', or nothing where there is no difference to tell."""
    if pd.isna(row["difference_low"]):
        return ""
    return f"{row['difference']:+.4f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"


def verdict(row: dict[Any, Any]) -> str:
    """Return 'good', 'badly' or '': whether the interval of the difference lies above, below or around 0."""
    if pd.isna(row["difference_low"]):
        return ""
    return "good" if row["difference_low"] > 0 else "badly" if row["difference_high"] < 0 else ""


def comparison(table: pd.DataFrame, part: str, main: str) -> list[dict[str, Any]]:
    """Return the lines of a part: a name, the overall scores, and the difference of macro-F1 to the main recipe."""
    rows = table[(table["part"] == part) & (table["class"] == "all")]
    lines = []
    for (recipe, variant), group in rows.groupby(["recipe", "variant"], sort=False):
        scores = {row["metric"]: row for row in group.to_dict("records")}
        is_main = recipe == main and variant == "all_views"
        macro = scores["macro_f1"]
        lines.append(
            {
                "recipe": recipe,
                "variant": VARIANT_NAMES[str(variant)],
                "main": is_main,
                "scores": [score_text(scores[name]) for name in COMPARED_SCORES],
                "difference": "0" if is_main else difference_text(macro),
                "verdict": "soft" if is_main else verdict(macro),
            }
        )
    return lines


def by_class(table: pd.DataFrame, part: str, recipes: list[str], codes: list[str]) -> list[dict[str, Any]]:
    """Return a line per class: its images, and its F1 with the interval in each column (the best is marked)."""
    whole = table["variant"].isin(["all_views", "restored", "after"])
    rows = table[(table["part"] == part) & whole & (table["metric"] == "f1")]
    found = {(row["recipe"], row["class"]): row for row in rows.to_dict("records")}
    lines = []
    for code in codes:
        of_class = [found[recipe, code] for recipe in recipes]
        best = max(row["value"] for row in of_class)
        cells = [
            {
                "value": f"{row['value']:.3f}",
                "interval": f"[{row['low']:.2f}, {row['high']:.2f}]",
                "best": row["value"] == best > 0,
            }
            for row in of_class
        ]
        lines.append({"code": code, "name": name_of(code), "support": of_class[0]["support"], "cells": cells})
    return lines


def content(
    table: pd.DataFrame, ways: list[Way], codes: list[str], units: dict[str, str], statistics: Statistics
) -> dict[str, Any]:
    """Return everything that the page shows; `units`: what was resampled, by part."""
    parts = list(units)
    recipes = [way.recipe for way in ways if way.variant == "all_views"]
    after = [way.recipe for way in ways if way.variant == "after"]
    restored = [way.recipe for way in ways if way.variant == "restored"]
    return {
        "parts": parts,
        "main": recipes[0],
        "recipes": recipes,
        "after": after,
        "restored": restored,
        "described": {recipe: recipe_words(recipe) for recipe in recipes},
        "described_after": {way: WAY_NAMES.get(way, "") for way in after},
        "described_restored": {way: RESTORATION_NAMES[way] for way in restored},
        "score_names": [name.replace("_", " ").replace("f1", "F1") for name in COMPARED_SCORES],
        "definitions": [DEFINITIONS[name] for name in COMPARED_SCORES],
        "units": units,
        "resamples": statistics.resamples,
        "percent": f"{100 * CONFIDENCE:.0f}",
        "comparisons": {part: comparison(table, part, recipes[0]) for part in parts},
        "classes": {part: by_class(table, part, recipes, codes) for part in parts},
        "classes_restored": {part: by_class(table, part, [recipes[0], *restored], codes) for part in parts},
        "classes_after": {part: by_class(table, part, [recipes[0], *after], codes) for part in parts},
    }


def labelled_parts(
    images: Path, labels: Path, test_labels: Path, folds: Path, ids: pd.Series
) -> dict[str, pd.DataFrame]:
    """Return the images of each part with image_id, group and true label; `ids` are those that were predicted."""
    image_rows = labelled(IMAGES.read(images), LABELS.read(labels))
    answers = TEST_LABELS.read(test_labels).set_index("image_id")["label"]
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
    numbers = table["label"].map(class_numbers(codes))
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
    *, images: Path, labels: Path, test_labels: Path, classes: Path, folds: Path, recipe: str,
    probabilities: list[Path], logits: list[Path], calibration: Path, alternatives: Path,
    restoration: str, restored: list[Path] | None = None, ablation: Path, csv: Path, page: Path, seed: int,
    data: str, statistics: Statistics, settings: CompareRecipes,
) -> None:  # fmt: skip
    """Score each recipe out of fold and on the test images whose label is known; `recipe` is the main one.

    `probabilities`: a table per recipe, the main one first; `logits` (one per fold) and `calibration`: the main one's;
    `alternatives`: what is done after it; `restored`: the main recipe's table by restoration other than `restoration`;
    `data`: the setting of this name.
    """
    recipes, restorations = settings.with_main(recipe), settings.others_than(restoration)
    codes = class_codes(CLASSES.read(classes))
    rows_of_logits = pd.concat([LOGITS.read(path) for path in logits], ignore_index=True)
    temperature = float(read_json(calibration).get("temperature", 1.0))
    ways = read_ways(recipes, probabilities, rows_of_logits, temperature, codes)
    ids = pd.Series(ways[0].numbers.index)
    ways += read_restorations(restorations, restored or [], ids, codes)
    ways += read_alternatives(alternatives, ids, codes)
    of_fold = one_view_of_each_fold(rows_of_logits, codes)
    parts = labelled_parts(images, labels, test_labels, folds, ids)
    scored = []
    for part, rows in parts.items():
        scored += score_single_folds(part, recipe, rows, of_fold, codes)
        scored += score_ways(part, rows, ways, codes, seed, statistics)
    table = pd.DataFrame(scored)
    ABLATION.write(table, ablation)
    with whole_file(csv) as partial:
        wide(table).to_csv(partial, index=False)
    units = {part: clusters_of(rows)[1] for part, rows in parts.items()}
    write_page("ablation.html.j2", content(table, ways, codes, units, statistics) | {"note": note_on(data)}, page)
    log.info("ablation: %d lines: %s", len(ways) + 1, page)


if __name__ == "__main__":
    run(compare_recipes)
