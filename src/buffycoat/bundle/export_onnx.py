"""One fold's model as an ONNX file: pixels 0..1 in, logits out; its size is fixed, the number of images is not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from buffycoat.bundle import form
from buffycoat.classify.backbones import normalise
from buffycoat.classify.predict_fold import load_fold_model
from buffycoat.core.errors import InputError
from buffycoat.core.files import whole_file


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
