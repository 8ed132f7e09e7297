"""Everything that a bundle holds, loaded once: networks, thresholds, rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor, nn

from buffycoat.bundle import form
from buffycoat.bundle.form import Manifest
from buffycoat.classify.predict_fold import load_fold_model
from buffycoat.classify.settings import PredictFold, TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json
from buffycoat.core.settings import Settings
from buffycoat.core.steps import describe_validation
from buffycoat.crop.methods import Means, Segmenter, chosen_method
from buffycoat.crop.settings import CropCells
from buffycoat.data.tables.index import CLASSES, class_codes
from buffycoat.embed.encoders import Encoder, load_encoder
from buffycoat.embed.settings import EmbedCells, TrainHead
from buffycoat.measure.settings import MeasureCells
from buffycoat.nets.weights import read_weights
from buffycoat.partition.settings import MeasureNoise
from buffycoat.partition.verdicts import Levels, levels_of
from buffycoat.refine.refine_labels import rulebook_in_use
from buffycoat.refine.rules import FittedRule
from buffycoat.refine.settings import RefineLabels
from buffycoat.restore.restore_cells import METHODS, Restorer
from buffycoat.restore.settings import RestoreCells
from buffycoat.review.outliers import Familiar, read_familiar
from buffycoat.review.settings import FindSuspects

log = logging.getLogger("buffycoat")
S = TypeVar("S", bound=Settings)


def replaced(manifest: Manifest, weights: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the manifest's settings with `weights` (by setting) in the place of the packed paths, each checked.

    Raises InputError where weights are missing, are not those of the packing, or are not asked for.
    """
    if strange := sorted(set(weights) - set(manifest.outside)):
        wanted = ", ".join(manifest.outside) or "none"
        raise InputError(f"--weights {strange[0]}: this bundle does not ask for it (it asks for: {wanted})")
    settings = {key: dict(values) for key, values in manifest.settings.items()}
    for key, outside in manifest.outside.items():
        place = weights.get(key, Path(outside.path))
        if not place.exists():
            if key in weights or outside.sha256 is not None:
                raise InputError(f"{place}: no such file or folder; the bundle needs it: give --weights {key}=PATH")
            continue  # a hub id, which the loader looks up in the local cache
        if outside.sha256 is not None and form.digest_of(place) != outside.sha256:
            raise InputError(f"{place}: not the weights that the bundle was made with (another SHA-256)")
        rule, _, name = key.rpartition(".")
        kind = str(settings[rule][name]).partition(":")[0] + ":" if name == "encoder" else ""
        settings[rule][name] = f"{kind}{place}"
    return settings


class Models:
    """What is needed to label images, each part loaded when it is first used; on one device, which is held."""

    def __init__(self, folder: Path, weights: Mapping[str, Path], pool: ThreadPoolExecutor, threads: int) -> None:
        """Check every file of the bundle; raises InputError where one is missing or is not what was packed."""
        self.folder, self.pool, self.threads = folder, pool, threads
        self.manifest = form.read_manifest(folder)
        form.check_parts(folder, self.manifest)
        self.settings = replaced(self.manifest, weights)
        if missing := sorted(set(form.SETTINGS) - set(self.settings)):
            raise InputError(f"{folder / form.MANIFEST}: lacks the settings of {', '.join(missing)}")
        self.classes = folder / form.CLASSES
        self.codes = class_codes(CLASSES.read(self.classes))
        if self.codes != list(self.manifest.classes):
            raise InputError(f"{self.classes}: its classes are not those of {form.MANIFEST}; copy the bundle anew")

    def of(self, key: str, kind: type[S]) -> S:
        """Return the settings of a rule; raises InputError where this version does not know them."""
        try:
            return kind.model_validate(self.settings[key])
        except ValidationError as problem:
            raise InputError(
                f"{self.folder / form.MANIFEST}: packed by buffycoat {self.manifest.buffycoat}, whose settings this"
                f" version does not take ({describe_validation(problem, key)})"
            ) from None

    @cached_property
    def crop(self) -> CropCells:
        """Settings of cropping."""
        return self.of("crop.crop_cells", CropCells)

    @cached_property
    def segment(self) -> Segmenter:
        """The segmenter."""
        path = self.folder / form.SEGMENTER
        trained = path if path.exists() and self.crop.chosen_method() != "stain" else None
        return chosen_method(self.crop, Means(self.pool, self.threads, trained))

    @cached_property
    def measure_noise(self) -> MeasureNoise:
        """Settings of the noise scores."""
        return self.of("partition.measure_noise", MeasureNoise)

    @cached_property
    def levels(self) -> Levels:
        """The fitted levels of noise, blur and light."""
        path = self.folder / form.THRESHOLD
        try:
            return levels_of(read_json(path))
        except (KeyError, TypeError) as problem:
            raise InputError(f"{path}: not fitted thresholds (no {problem}); copy the bundle anew") from None

    @cached_property
    def restore(self) -> RestoreCells:
        """Settings of restoration."""
        return self.of("restore.restore_cells", RestoreCells)

    @cached_property
    def restorer(self) -> Restorer:
        """What restores noisy crops."""
        path = self.folder / form.GENERATOR
        return METHODS[self.restore.method]([path] if path.exists() else [])

    @cached_property
    def predict_fold(self) -> PredictFold:
        """Settings of branch A's predictions."""
        return self.of("classify.predict_fold", PredictFold)

    @cached_property
    def folds(self) -> dict[int, tuple[nn.Module, TrainFold]]:
        """Branch A: each fold's network and its settings."""
        architecture = self.folder if (self.folder / form.ARCHITECTURE).exists() else None
        paths = {fold: self.folder / form.fold_file(fold) for fold in self.manifest.folds}
        return {fold: load_fold_model(path, self.codes, architecture) for fold, path in paths.items()}

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """The temperatures."""
        path = self.folder / form.CALIBRATION
        found: dict[str, Any] = read_json(path)
        try:
            float(found["temperature"]), dict(found["by_fold"])
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(f"{path}: not fitted temperatures ({problem}); copy the bundle anew") from None
        return found

    @cached_property
    def embed(self) -> EmbedCells:
        """Settings of the embeddings."""
        return self.of("embed.embed_cells", EmbedCells)

    @cached_property
    def encoder(self) -> Encoder:
        """Branch B's encoder."""
        return load_encoder(self.embed)

    @cached_property
    def train_head(self) -> TrainHead:
        """Settings of branch B's head."""
        return self.of("embed.train_head", TrainHead)

    @cached_property
    def heads(self) -> dict[int, dict[str, Tensor]]:
        """Branch B's heads, by fold; -1 is one that has seen everything."""
        path = self.folder / form.HEADS
        tensors, _ = read_weights(path)
        heads: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            fold, _, rest = name.partition(".")
            if not rest or not fold.removeprefix("fold_").lstrip("-").isdigit():
                raise InputError(f"{path}: holds {name!r}, which is no tensor of a head; copy the bundle anew")
            heads.setdefault(int(fold.removeprefix("fold_")), {})[rest] = tensor
        return heads

    @cached_property
    def measure_cells(self) -> MeasureCells:
        """Settings of the measures."""
        return self.of("refine.measure_cells", MeasureCells)

    @cached_property
    def rules(self) -> list[FittedRule]:
        """The refinement's rules that are on."""
        if self.of("refine.refine_labels", RefineLabels).mode == "off":
            return []
        return rulebook_in_use(self.folder / form.RULES, tuple(self.codes)).active()

    @cached_property
    def find_suspects(self) -> FindSuspects:
        """Settings of the suspicions."""
        return self.of("refine.find_suspects", FindSuspects)

    @cached_property
    def familiar(self) -> Familiar:
        """What the training images look like to both branches."""
        return read_familiar(self.folder / form.FAMILIAR)

    def load(self) -> None:
        """Load everything now, so that what is missing is known before the first image is."""
        for name, value in vars(type(self)).items():
            if isinstance(value, cached_property):
                getattr(self, name)

    def fingerprint(self) -> str:
        """Return a text that tells this bundle, with its weights and settings, from every other."""
        return json.dumps([self.manifest.model_dump(mode="json"), self.settings], sort_keys=True)
