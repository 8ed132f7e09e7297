"""The model card of a bundle: Markdown for a person, every figure from the manifest."""

from __future__ import annotations

from typing import Any

from buffycoat.bundle.settings import PackBundle
from buffycoat.bundle_format import Manifest

PARTS = {"out_of_fold": "out of fold", "test": "test images"}
OVERALL = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
           "macro_specificity": "macro specificity"}  # fmt: skip


def plain(text: object) -> str:
    """Return a text that neither Markdown nor HTML takes for anything but text, on one line."""
    flat = " ".join(str(text).split())
    escaped = "".join(f"\\{sign}" if sign in "\\`*_{}[]#|" else sign for sign in flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _interval(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "undefined"
    bounds = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{bounds}"


def scores_section(table: list[dict[str, Any]]) -> list[str]:
    """Return the scores of the final labels, a table per part."""
    lines = ["## Scores", "", "With 95 % intervals unless set otherwise, clustered on patients where those are known."]
    for part, name in PARTS.items():
        rows = [row for row in table if row["part"] == part]
        if not rows:
            continue
        lines += ["", f"### {name[:1].upper()}{name[1:]}", "", "| score | value | images |", "|---|---|---|"]
        lines += [
            f"| {OVERALL.get(row['metric'], row['metric'])} | {_interval(row)} | {row['support']} |"
            for row in rows
            if row["class"] == "all"
        ]
        lines += [
            f"| F1 of {plain(row['class'])} | {_interval(row)} | {row['support']} |"
            for row in rows
            if row["class"] != "all"
        ]
    return [*lines, ""]


def data_section(manifest: Manifest, settings: PackBundle) -> list[str]:
    """Return what it was trained on."""
    training = manifest.training
    patients = f" of {training['groups']} patients" if training["groups"] else ", patients unknown"
    lines = ["## Training data", "", plain(settings.description) or "Not described by whoever packed the bundle."]
    lines += ["", f"{training['images']} images{patients}.", "", "| class | name | training images |", "|---|---|---|"]
    lines += [
        f"| {plain(code)} | {plain(entry['name'])} | {entry['images']} |" for code, entry in training["classes"].items()
    ]
    return [*lines, ""]


def rules_section(rules: dict[str, Any]) -> list[str]:
    """Return which rare classes the refinement rescues, and which it does not and why."""
    lines = ["## Refinement", ""]
    for fitted in rules["rules"]:
        rule = fitted["rule"]
        hosts = ", ".join(plain(host) for host in rule["hides_in"])
        lines.append(f"- {plain(rule['rescued'])} among {hosts}: {fitted['state']}. {plain(fitted['reason'])}")
    if not rules["rules"]:
        lines.append("No rule: no rare class is mistaken for others often enough.")
    return [*lines, ""]


def needs_section(manifest: Manifest) -> list[str]:
    """Return how it is used, and what it needs that it does not hold."""
    command = "buffycoat predict --bundle THIS_FOLDER IMAGES... --out predictions.parquet"
    lines = ["## Use", "", "```", command, "```", ""]
    for key, outside in manifest.outside.items():
        digest = f", SHA-256 {outside.sha256}" if outside.sha256 else ""
        lines.append(
            f"- Needs `{key}`, which is not in here: {plain(outside.path)}{digest}. Elsewhere: `--weights {key}=PATH`."
        )
    if not manifest.outside:
        lines.append("Everything that it needs is in this folder and in the package.")
    return [*lines, ""]


def model_card(manifest: Manifest, rules: dict[str, Any], settings: PackBundle) -> str:
    """Return the model card."""
    crop, embed = manifest.settings["crop.crop_cells"], manifest.settings["embed.embed_cells"]
    licence = plain(settings.licence) or "None stated: ask whoever gave it to you."
    lines = [
        f"# {plain(settings.name)}",
        "",
        "Classifies the primary white blood cell of each image. **Research use only.** Not a medical device, not for"
        " diagnosis.",
        "",
        *needs_section(manifest),
        *data_section(manifest, settings),
        *scores_section(manifest.scores["table"]),
        *rules_section(rules),
        "## Limits",
        "",
        "- Scores hold for images like those above. Of other stains, scanners and magnifications they say nothing: look"
        " at the column `suspect` first.",
        f"- A cell is sought in a window of {crop['window_px']} source pixels: images of another magnification must be"
        " resized before.",
        "- Every image gets one of the classes above, also a cell of none of them.",
        "",
        "## Made with",
        "",
        f"buffycoat {manifest.buffycoat}, recipe `{manifest.recipe}`, {len(manifest.folds)} folds, encoder"
        f" `{plain(embed['encoder'])}`, seed {manifest.seed}; "
        + ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
        + ".",
        "",
        f"Licence: {licence}" + (f" Contact: {plain(settings.contact)}." if settings.contact else ""),
    ]
    return "\n".join(lines) + "\n"
