"""What the report says of branch A's training and calibration, in words."""

from __future__ import annotations

from typing import Any

from buffycoat.recipes import BODY_OF, RECIPE_NAMES


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
