"""Everything that a bundle holds, loaded once: what each step's `apply` needs, and one fold's model as ONNX."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from buffycoat.bundle import form
from buffycoat.bundle.form import Manifest
from buffycoat.classify.backbones import normalise
from buffycoat.classify.combine_folds import FoldEnsemble, ensemble_of
from buffycoat.classify.predict_fold import FoldModel, load_fold_model
from buffycoat.classify.settings import PredictFold
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, whole_file
from buffycoat.core.settings import Settings
from buffycoat.core.steps import describe_validation
from buffycoat.crop.crop_cells import Cropper, load_cropper
from buffycoat.crop.settings import CropCells
from buffycoat.data.tables.index import CLASSES, class_codes
from buffycoat.embed.embed_cells import Embedder
from buffycoat.embed.encoders import load_encoder
from buffycoat.embed.settings import EmbedCells, TrainHead
from buffycoat.embed.train_head import Heads
from buffycoat.measure.measure_cells import CellMeter
from buffycoat.measure.settings import MeasureCells
from buffycoat.nets.weights import read_weights
from buffycoat.partition.flag_noisy import Levels, levels_of
from buffycoat.partition.measure_noise import NoiseMeter
from buffycoat.refine.refine_labels import Refiner, load_refiner
from buffycoat.restore.restore_cells import Restorer, load_restorer
from buffycoat.restore.settings import RestoreCells
from buffycoat.review.find_suspects import SuspectFinder
from buffycoat.review.outliers import read_familiar
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


def read_heads(path: Path) -> dict[int, dict[str, Tensor]]:
    """Return branch B's heads by fold, -1 for one that has seen everything; raises InputError where they are none."""
    heads: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_weights(path)[0].items():
        fold, _, rest = name.partition(".")
        if not rest or not fold.removeprefix("fold_").lstrip("-").isdigit():
            raise InputError(f"{path}: holds {name!r}, which is no tensor of a head; copy the bundle anew")
        heads.setdefault(int(fold.removeprefix("fold_")), {})[rest] = tensor
    return heads


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
        classes = folder / form.CLASSES
        table = CLASSES.read(classes)
        self.codes = class_codes(table)
        self.names = {str(code): str(name) for code, name in zip(table["code"], table["name"], strict=True)}
        if self.codes != list(self.manifest.classes):
            raise InputError(f"{classes}: its classes are not those of {form.MANIFEST}; copy the bundle anew")

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
    def cropper(self) -> Cropper:
        """What cuts out cells."""
        settings, path = self.of("crop.crop_cells", CropCells), self.folder / form.SEGMENTER
        trained = path if path.exists() and settings.chosen_method() != "stain" else None
        return load_cropper(settings, self.pool, self.threads, trained)

    @cached_property
    def noise_meter(self) -> NoiseMeter:
        """What scores noise."""
        return NoiseMeter(self.threads)

    @cached_property
    def levels(self) -> Levels:
        """The fitted levels of noise, blur and light."""
        path = self.folder / form.THRESHOLD
        try:
            return levels_of(read_json(path))
        except (KeyError, TypeError) as problem:
            raise InputError(f"{path}: not fitted thresholds (no {problem}); copy the bundle anew") from None

    @cached_property
    def restorer(self) -> Restorer:
        """What restores noisy crops."""
        path = self.folder / form.GENERATOR
        return load_restorer(self.of("restore.restore_cells", RestoreCells), [path] if path.exists() else [])

    @cached_property
    def folds(self) -> list[FoldModel]:
        """Branch A's networks, one per fold."""
        settings = self.of("classify.predict_fold", PredictFold)
        architecture = self.folder if (self.folder / form.ARCHITECTURE).exists() else None
        models = []
        for fold in self.manifest.folds:
            network, trained = load_fold_model(self.folder / form.fold_file(fold), self.codes, architecture)
            models.append(FoldModel(fold, network, trained, self.codes, settings))
        return models

    @cached_property
    def ensemble(self) -> FoldEnsemble:
        """What averages branch A's folds."""
        path = self.folder / form.CALIBRATION
        try:
            return ensemble_of(self.codes, read_json(path))
        except (KeyError, TypeError, ValueError) as problem:
            raise InputError(f"{path}: not fitted temperatures ({problem}); copy the bundle anew") from None

    @cached_property
    def embedder(self) -> Embedder:
        """Branch B's encoder."""
        settings = self.of("embed.embed_cells", EmbedCells)
        return Embedder(load_encoder(settings), settings)

    @cached_property
    def heads(self) -> Heads:
        """Branch B's heads."""
        return Heads(read_heads(self.folder / form.HEADS), self.codes, self.of("embed.train_head", TrainHead))

    @cached_property
    def cell_meter(self) -> CellMeter:
        """What measures cells."""
        return CellMeter(self.of("measure.measure_cells", MeasureCells), self.threads)

    @cached_property
    def refiner(self) -> Refiner:
        """The refinement's rules."""
        return load_refiner(self.folder / form.RULES, self.codes)

    @cached_property
    def finder(self) -> SuspectFinder:
        """What finds suspects, with what the training images look like to both branches."""
        settings = self.of("review.find_suspects", FindSuspects)
        return SuspectFinder(read_familiar(self.folder / form.FAMILIAR), self.codes, settings)

    def load(self) -> None:
        """Load everything now, so that what is missing is known before the first image is."""
        for name, value in vars(type(self)).items():
            if isinstance(value, cached_property):
                getattr(self, name)

    def fingerprint(self) -> str:
        """Return a text that tells this bundle, with its weights and settings, from every other."""
        return json.dumps([self.manifest.model_dump(mode="json"), self.settings], sort_keys=True)


class WithNormalisation(nn.Module):
    """A fold's network that takes pixels (n, 3, S, S) in 0..1 as they are: RGB, resized and composited."""

    def __init__(self, network: nn.Module) -> None:
        """Keep the network."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        logits: Tensor = self.network(normalise(images, self.network))
        return logits


def export_fold(bundle: Path, fold: int, out: Path) -> str:
    """Write the ONNX file and return a sentence on how to use it; raises InputError where something is missing.

    Resizing is not part of the file: it differs between libraries (crops are resized bilinearly with antialiasing). The
    classes and the settings of the crops are in its metadata.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as problem:
        raise InputError(f"ONNX is not installed ({problem}): pip install 'buffycoat[onnx]'") from None
    # They tell every node that they rewrite.
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)
    manifest = form.read_manifest(bundle)
    form.check_parts(bundle, manifest)
    if fold not in manifest.folds:
        raise InputError(f"{bundle}: has no fold {fold}; its folds are {', '.join(map(str, manifest.folds))}")
    architecture = bundle if (bundle / form.ARCHITECTURE).exists() else None
    network, trained = load_fold_model(bundle / form.fold_file(fold), list(manifest.classes), architecture)
    example = torch.rand(2, 3, trained.size_px, trained.size_px)
    made = torch.onnx.export(
        WithNormalisation(network).eval(), (example,), input_names=["images"], output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},), dynamo=True, verbose=False,
    )  # fmt: skip
    if made is None:
        raise InputError(f"{bundle}: torch could not export fold {fold}")
    model = made.model_proto
    about = {"classes": list(manifest.classes), "background": trained.background, "size_px": trained.size_px,
             "temperature": "see calibration.json of the bundle", "bundle": manifest.name, "fold": fold}  # fmt: skip
    onnx.helper.set_model_props(model, {"buffycoat": json.dumps(about)})
    with whole_file(out) as partial:
        onnx.save(model, str(partial))
    side, count = trained.size_px, len(manifest.classes)
    return f"{out}: images (n, 3, {side}, {side}) float32 RGB in 0..1 to logits (n, {count})"
