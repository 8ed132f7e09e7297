"""What a bundle is: a folder with everything that was learned, listed in bundle.json; no pickle, nothing from outside.

The stage `bundle` writes it, `buffycoat predict` reads it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, sha256_of
from buffycoat.core.settings import Settings
from buffycoat.core.steps import describe_validation
from buffycoat.data.methods import cropping_method

MANIFEST, CARD = "bundle.json", "MODEL_CARD.md"
CLASSES, THRESHOLD, CALIBRATION, RULES = "classes.parquet", "threshold.json", "calibration.json", "rules.json"
HEADS, FAMILIAR, SEGMENTER, GENERATOR = (
    f"{name}.safetensors" for name in ("heads", "familiar", "segmenter", "generator")
)
ARCHITECTURE = "config.json"
"""timm's configuration of a backbone that was named by folder or hub id."""
SETTINGS = (
    "crop.crop_cells",
    "restore.restore_cells",
    "classify.predict_fold",
    "embed.embed_cells",
    "embed.train_head",
    "measure.measure_cells",
    "review.find_suspects",
)
"""The rules whose settings a prediction needs."""
FORMAT = 2
"""Version of the form; 2 added `usual` and `note`."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def fold_file(fold: int) -> str:
    """Return the name of a fold model's file."""
    return f"fold_{fold}.safetensors"


class Part(Settings):
    """One file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its bytes.")
    bytes: int = Field(ge=0, description="Its length.")


class Outside(Settings):
    """Weights that the bundle does not hold, because their licence or size forbids it."""

    path: str = Field(description="Where they lay when the bundle was packed.")
    sha256: str | None = Field(description="Digest of the file, or of the folder's files; null where it was not local.")


class Usual(Settings):
    """What the training images were like: what a batch of new images is compared with."""

    images: int = Field(ge=0, description="Training images.")
    diameter_px: float | None = Field(description="Median diameter of their cells, source pixels; null without a cell.")
    ranges: dict[str, tuple[float, float]] = Field(description="By measure: from which to which value is usual.")
    shares: dict[str, float] = Field(description="By comparison: which share of the training images lies outside.")


class Manifest(Settings):
    """bundle.json."""

    format: Literal[2] = Field(description="Version of this form.")
    name: str
    note: str = Field(description="What everybody must know first; empty where there is no such thing.")
    buffycoat: str = Field(description="Version of the package that packed it.")
    code: str = Field(description="Digest of the code that prediction runs through.")
    seed: int
    recipe: str
    folds: tuple[int, ...] = Field(min_length=1)
    classes: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, dict[str, Any]] = Field(description="By rule: those of SETTINGS.")
    files: dict[str, Part]
    outside: dict[str, Outside] = Field(description="By the setting that names them.")
    versions: dict[str, str] = Field(description="Of the packages that results depend on.")
    training: dict[str, Any] = Field(description="Images, groups and classes that it was trained on.")
    usual: Usual
    scores: dict[str, Any] = Field(description="With intervals, as results/report/summary.json has them.")

    @field_validator("files")
    @classmethod
    def _plain(cls, files: dict[str, Part]) -> dict[str, Part]:
        for name in files:
            if not PLAIN_NAME.fullmatch(name) or name.startswith(".") or name == MANIFEST:
                raise ValueError(f"{name!r} is not a plain file name")
        return files


def read_manifest(folder: Path) -> Manifest:
    """Return a bundle's manifest; raises InputError where it is missing, damaged or of another form."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; a bundle is the folder that `buffycoat run my.yaml -- pack_bundle` writes"
        )
    content = read_json(path)
    number = content.get("format") if isinstance(content, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise InputError(f"{path}: format {number} is newer than this version of buffycoat; update it")
    if isinstance(number, int) and number < FORMAT:
        packed = f"buffycoat {content.get('buffycoat')}"
        raise InputError(
            f"{path}: format {number}, packed by {packed}, lacks what the training images were like; pack it anew"
            f" (snakemake pack_bundle), or use {packed}"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as problem:
        what = describe_validation(problem, "")
        raise InputError(f"{path}: not the manifest of a bundle ({what})") from None


def check_parts(folder: Path, manifest: Manifest) -> None:
    """Raise InputError unless every listed file is there with its length and digest, and no needed one is unlisted."""
    needed = {CLASSES, THRESHOLD, CALIBRATION, RULES, HEADS, FAMILIAR, *(fold_file(fold) for fold in manifest.folds)}
    if absent := sorted(needed - set(manifest.files)):
        raise InputError(f"{folder / MANIFEST}: lists no {', '.join(absent)}; copy the bundle anew")
    for name, part in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise InputError(f"{path}: missing from the bundle; copy it anew")
        if path.stat().st_size != part.bytes or sha256_of(path) != part.sha256:
            raise InputError(f"{path}: not the file that was packed (its SHA-256 differs); copy the bundle anew")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and digests of a folder's JSON and safetensors files."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors") and file.is_file())
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def outside_of(settings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return, by setting, the places of the weights that predictions need beside the bundle: paths or hub ids."""
    crop, embed = settings["crop.crop_cells"], settings["embed.embed_cells"]
    found = {}
    if cropping_method(crop["method"], crop["weights"]) == "cellpose":
        found["crop.crop_cells.weights"] = str(crop["weights"])
    kind, _, name = str(embed["encoder"]).partition(":")
    if embed["weights"]:
        found["embed.embed_cells.weights"] = str(embed["weights"])
    elif kind in ("open_clip", "timm"):
        found["embed.embed_cells.encoder"] = name
    return found
