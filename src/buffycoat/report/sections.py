"""What each section of the report shows, as plain values for the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from buffycoat.data.cell_types import name_of
from buffycoat.data.images import CellImages, Pixels, decode_bytes, on_white
from buffycoat.data.labels import class_numbers
from buffycoat.data.locations import locations_of, read_encoded
from buffycoat.data.methods import BODY_OF, RECIPE_NAMES
from buffycoat.data.pages import data_address, outlined, sized, with_window
from buffycoat.report.score_labels import PHASES, STEPS
from buffycoat.stats.scores import OVERALL

THUMBNAIL_PX = 120
"""Side of the pictures, pixels."""
RESTORATIONS = 12
"""Restorations shown, at most: this many of the worst kept, and of the refused."""
PHASE_NAMES = {
    "branch_a": "Branch A: mean over folds and views",
    "branch_b": "Branch B: embedding and contrastive head",
    "suppressed": "Before phase 1: rare classes taken away from branch A's labels, if rules say so",
    "phase_1": "+ Phase 1, sensitivity boosting",
    "phase_2": "+ Phase 2, semantic verification",
    "phase_3": "+ Phase 3, biological filter (final)",
}


def recipe_words(recipe: str) -> str:
    """Return a recipe in one line, without the marks of Markdown; empty where it is unknown."""
    return RECIPE_NAMES.get(recipe, "").replace("`", "")


def training_words(config: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe, the rule by which an epoch's weights were kept, and whether that rule saw the held-out fold.

    `config` is the whole configuration; a part of it (as in a test) gives an empty rule.
    """
    stage = config.get("classify", {})
    recipe, settings = str(stage.get("recipe", "")), stage.get("train_fold", {})
    rules = {
        "last": "the last epoch, whatever its score: the held-out fold had no say in it",
        "best": "the epoch with the best macro-F1 on the held-out fold, so out-of-fold scores are optimistic",
    }
    rule = rules.get(settings.get("choose", ""), "")
    if rule and settings.get("ema"):
        rule += f"; weights are averaged over the steps (EMA, decay {settings['ema']:g})"
    if rule and recipe in BODY_OF:
        rule += f"; starts from {BODY_OF[recipe]}'s model of the same fold, kept by the same rule"
    described = f"{recipe}: {recipe_words(recipe)}" if recipe in RECIPE_NAMES else recipe
    return {"recipe": described, "kept": rule, "optimistic": settings.get("choose") == "best"}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def calibration_words(found: dict[str, Any]) -> dict[str, Any]:
    """Return the temperatures and the errors before and after them, of `combine_folds`'s calibration."""
    by_fold = [
        {"fold": fold, "temperature": f"{entry['temperature']:.3f}", "fitted_on": entry["fitted_on"]}
        for fold, entry in sorted(found["by_fold"].items(), key=lambda pair: int(pair[0]))
    ]
    lines = [
        {
            "name": name,
            "error": _number(found[key]["expected_calibration_error"]),
            "surprise": _number(found[key]["negative_log_likelihood"]),
        }
        for key, name in (("before", "logits as they are"), ("after", "divided by the temperature"))
    ]
    return {
        "fitted": found["fitted"],
        "temperature": f"{found['temperature']:.3f}",
        "by_fold": by_fold,
        "images": found["images"],
        "lines": lines if found["fitted"] else lines[:1],
        "binning": found["binning"],
    }


def moved(cells: pd.DataFrame) -> pd.Series:
    """Return by how much the areas moved: the larger of the two changes, either way, as a share."""
    return cells[["nucleus_change", "cell_change"]].abs().max(axis=1)


def worst_kept(cells: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the restored cells whose areas moved most."""
    kept = cells[cells["restored"]]
    return kept.loc[moved(kept).sort_values(ascending=False, kind="stable").index].head(most)


def worst_refused(cells: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the refused cells, by turns those whose areas moved most and those whose noise rose most."""
    refused = cells[cells["noise_after"].notna() & ~cells["restored"]]
    gain = refused["noise_after"] - refused["noise_before"]
    orders = [values.sort_values(ascending=False, kind="stable").index for values in (moved(refused), gain)]
    turns = [place for pair in zip(*orders, strict=True) for place in pair]
    return refused.loc[list(dict.fromkeys(turns))].head(most)


def counts(cells: pd.DataFrame) -> dict[str, Any]:
    """Return how many restorations were tried, kept and refused, and the first reason of the refusals."""
    tried = cells[cells["noise_after"].notna()]
    refused = tried[~tried["restored"]]
    why = refused["reason"].str.extract(r"^refused: (noise score|nucleus area|cell area)")[0].fillna("other")
    return {
        "tried": len(tried),
        "kept": int(tried["restored"].sum()),
        "refused": len(refused),
        "why": {str(name): int(count) for name, count in why.value_counts().items()},
    }


def _pair(image_id: str, reason: str, before: Pixels, after: Pixels, mask: Pixels, side: int) -> dict[str, str]:
    return {
        "image_id": image_id,
        "reason": reason,
        "before": data_address(sized(before, side)),
        "after": data_address(outlined(after, mask, side)),
    }


def content(cells: pd.DataFrame, pictures: Cells, refused: pd.DataFrame, refused_table: Path) -> dict[str, Any]:
    """Return counts and before-and-after pairs for the template."""
    side = THUMBNAIL_PX
    kept_pairs = []
    for row in worst_kept(cells, RESTORATIONS).itertuples():
        k, final = pictures.place[str(row.image_id)], pictures.final[str(row.image_id)]
        before, after, mask = pictures.crops.crop(k), pictures.cells.crop(final), pictures.crops.mask(k)
        kept_pairs.append(_pair(str(row.image_id), str(row.reason), before, after, mask, side))
    restored = CellImages(refused, refused_table)
    places = {image_id: k for k, image_id in enumerate(restored.ids)}
    refused_pairs = []
    for row in worst_refused(cells, RESTORATIONS).itertuples():
        k, there = pictures.place[str(row.image_id)], places[str(row.image_id)]
        before, after, mask = pictures.crops.crop(k), restored.crop(there), pictures.crops.mask(k)
        refused_pairs.append(_pair(str(row.image_id), str(row.reason), before, after, mask, side))
    return {
        "restoration_counts": counts(cells),
        "kept_restorations": kept_pairs,
        "refused_restorations": refused_pairs,
    }


class Cells:
    """Crops and final cells by image_id, for pictures."""

    def __init__(self, crops: pd.DataFrame, crops_path: Path, cells: pd.DataFrame, cells_path: Path) -> None:
        """Map both sets of shards."""
        self.crops, self.cells = CellImages(crops, crops_path), CellImages(cells, cells_path)
        self.place = {image_id: k for k, image_id in enumerate(self.crops.ids)}
        self.final = {image_id: k for k, image_id in enumerate(self.cells.ids)}
        self.rows = crops.set_index("image_id")

    def card(self, image_id: str, side: int) -> str:
        """Return the final cell with its outlines."""
        k = self.final[image_id]
        return data_address(outlined(self.cells.crop(k), self.cells.mask(k), side))


def with_interval(row: Any) -> str:
    """Return '0.771 [0.74, 0.80]', or the value alone where there is no interval."""
    if row is None:
        return "–"
    if pd.isna(row.low):
        return f"{row.value:.4f}"
    return f"{row.value:.4f} [{row.low:.3f}, {row.high:.3f}]"


def fold_table(metrics: pd.DataFrame) -> list[dict[str, str]]:
    """Return, per overall score of branch A: mean and SD over folds, pooled out of fold and test with intervals."""
    rows = metrics[(metrics["class"] == "all") & (metrics["phase"] == "branch_a")]
    table = []
    for name in OVERALL:
        of_metric = rows[rows["metric"] == name]
        folds = of_metric.loc[of_metric["part"].str.startswith("fold_"), "value"]
        spread = f" ± {folds.std(ddof=1):.4f}" if len(folds) > 1 else ""
        entry = {"name": name.replace("_", " ").replace("f1", "F1"), "folds": f"{folds.mean():.4f}{spread}"}
        for part in ("out_of_fold", "test"):
            found = list(of_metric[of_metric["part"] == part].itertuples())
            entry[part] = with_interval(found[0] if found else None)
        table.append(entry)
    return table


def each_fold(metrics: pd.DataFrame) -> list[dict[str, str]]:
    """Return, per fold, its images, branch A's overall scores, and macro-F1 after refinement."""
    rows = metrics[metrics["part"].str.startswith("fold_") & (metrics["class"] == "all")]
    value = rows.set_index(["part", "phase", "metric"])["value"].to_dict()
    images = {str(part): int(count) for part, count in rows.groupby("part")["support"].max().items()}
    return [
        {
            "fold": part.removeprefix("fold_"),
            "images": str(images[part]),
            **{name: f"{value[part, 'branch_a', name]:.4f}" for name in OVERALL},
            "after": f"{value[part, 'phase_3', 'macro_f1']:.4f}",
        }
        for part in sorted(images, key=lambda part: int(part.removeprefix("fold_")))
    ]


def _signed(gain: dict[str, float]) -> str:
    return f"{gain['macro_f1']:+.4f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def verdict(gain: dict[str, float]) -> str:
    """Return in words what refinement did to macro-F1, from the paired difference and its interval."""
    if gain["low"] == gain["high"] == 0:
        return "refinement made no difference"
    if gain["low"] > 0:
        return f"refinement raised it by {_signed(gain)}"
    if gain["high"] < 0:
        return f"refinement lowered it by {_signed(gain)}"
    return f"refinement made no difference beyond chance, {_signed(gain)}"


def phase_table(metrics: pd.DataFrame, gains: dict[str, Any], part: str) -> list[dict[str, str]]:
    """Return the ablation: macro-F1 of each phase and its paired difference from the one before."""
    rows = metrics[(metrics["class"] == "all") & (metrics["metric"] == "macro_f1") & (metrics["part"] == part)]
    by_phase = {row.phase: row for row in rows.itertuples()}
    before = dict(STEPS[:-1])
    table = []
    for phase in PHASES:
        gain = gains.get(f"{phase} - {before.get(phase)}")
        shown = _signed(gain) if gain else ""
        table.append({"name": PHASE_NAMES[phase], "value": with_interval(by_phase.get(phase)), "gain": shown})
    table.append({"name": "final against branch A", "value": "", "gain": _signed(gains[" - ".join(STEPS[-1])])})
    return table


def class_table(metrics: pd.DataFrame, part: str, codes: list[str]) -> list[dict[str, str]]:
    """Return per class: support, precision, recall, F1 with intervals after refinement, and F1 before."""
    rows = metrics[(metrics["part"] == part) & (metrics["class"] != "all")].rename(columns={"class": "code"})
    found = {(row.phase, row.code, row.metric): row for row in rows.itertuples()}
    table = []
    for code in codes:
        entry = {"code": code, "name": name_of(code)}
        for metric in ("precision", "recall", "f1"):
            entry[metric] = with_interval(found.get(("phase_3", code, metric)))
        entry["f1_before"] = with_interval(found.get(("branch_a", code, "f1")))
        f1 = found.get(("phase_3", code, "f1"))
        entry["support"] = str(f1.support) if f1 is not None else "0"
        table.append(entry)
    return table


def wrong_cells(
    labels: pd.DataFrame, known: pd.Series, branch_a: pd.DataFrame, codes: list[str], cells: Cells, most: int, side: int
) -> list[dict[str, Any]]:
    """Return the most confidently wrong cells, at most two per pair of classes, so that no pair fills the page."""
    frame = labels.assign(expert=labels["image_id"].map(known))
    frame = with_chance(frame[frame["expert"].notna() & (frame["expert"] != frame["label"])], branch_a, codes)
    frame = frame.sort_values("chance", ascending=False, kind="stable").groupby(["expert", "label"]).head(2)
    return [_tile(row, cells, side) for row in frame.head(most).itertuples()]


def uncertain_cells(
    labels: pd.DataFrame, known: pd.Series, branch_a: pd.DataFrame, codes: list[str], cells: Cells, most: int, side: int
) -> list[dict[str, Any]]:
    """Return the cells whose label branch A finds least probable, at most four per label."""
    frame = with_chance(labels.assign(expert=labels["image_id"].map(known)), branch_a, codes)
    frame = frame.sort_values("chance", kind="stable").groupby("label").head(4)
    return [_tile(row, cells, side) for row in frame.head(most).itertuples()]


def with_chance(frame: pd.DataFrame, branch_a: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return `frame` with branch A's probability of each row's label as column `chance`."""
    place = frame["label"].map(class_numbers(codes)).to_numpy(np.int64)
    values = branch_a.loc[frame["image_id"], codes].to_numpy(np.float64)
    return frame.assign(chance=values[np.arange(len(frame)), place])


def _tile(row: Any, cells: Cells, side: int) -> dict[str, Any]:
    image_id = str(row.image_id)
    return {
        "image_id": image_id,
        "picture": cells.card(image_id, side),
        "expert": row.expert if isinstance(row.expert, str) else "unknown",
        "label": row.label,
        "chance": f"{row.chance:.2f}",
    }


def choose_samples(images: pd.DataFrame, table: pd.DataFrame, most: int) -> list[str]:
    """Return images to show on their way: restored ones first, then as many classes as there is room for."""
    frame = table.merge(images[["image_id", "label"]], on="image_id")
    restored = frame[frame["restored"]]
    some = restored.groupby("label", dropna=False).head(1).head(most // 2)
    others = frame[~frame["restored"] & ~frame["label"].isin(set(some["label"]))]
    rest = others.groupby("label").head(1)
    return [str(image_id) for image_id in pd.concat([some, rest])["image_id"].head(most)]


def pipeline_rows(
    ids: list[str], images: pd.DataFrame, cells: Cells, reasons: pd.Series, side: int
) -> list[dict[str, Any]]:
    """Return Fig. 2 of the paper for some cells: raw, mask, crop, crop on white, what the models see."""
    by_id = images.set_index("image_id")
    places = dict(zip(by_id.index, locations_of(by_id), strict=True))
    rows = []
    for image_id in ids:
        crop, mask = cells.crops.crop(cells.place[image_id]), cells.crops.mask(cells.place[image_id])
        final = cells.cells.crop(cells.final[image_id])
        place: Any = cells.rows.loc[image_id]
        raw = decode_bytes(read_encoded(places[image_id]))
        label = by_id.loc[image_id, "label"]
        rows.append(
            {
                "image_id": image_id,
                "label": f"{label}, {name_of(label)}" if isinstance(label, str) else "no given label",
                "reason": reasons[image_id],
                "raw": data_address(with_window(raw, place["row"], place["col"], int(place["window_px"]), side)),
                "mask": data_address(outlined(crop, mask, side)),
                "crop": data_address(sized(crop, side)),
                "white": data_address(sized(on_white(crop, mask), side)),
                "final": data_address(sized(final, side)),
            }
        )
    return rows
