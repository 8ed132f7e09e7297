"""Settings of the stage `crop`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from buffycoat.core.settings import Settings
from buffycoat.data.methods import cropping_method


class CropCells(Settings):
    """How the primary white cell is found and cut out."""

    method: Literal["auto", "embedded", "cellpose", "stain"] = Field(
        default="auto",
        description="`embedded`: the network whose weights ship in the package (or the one that train_segmenter made);"
        " `cellpose`: Cellpose-SAM from a local weights file, the nucleus by the embedded network; `stain`: classical,"
        " from the dark purple nucleus outwards; `auto`: `cellpose` where `weights` is set, otherwise `embedded`.",
    )
    window_px: int = Field(
        default=224, ge=16, description="Side of the square window around the cell, source pixels (paper: 224)."
    )
    size_px: int = Field(
        default=224, ge=16, description="Side of the stored crop, pixels; the window is resized to it."
    )
    weights: str | None = Field(
        default=None,
        description="`cellpose`: the local weights file, the published `cpsam` or one that Cellpose fine-tuned;"
        " it is never downloaded by a run, see docs/weights.md.",
    )

    def chosen_method(self) -> str:
        """Return the method that `auto` stands for, otherwise the method."""
        return cropping_method(self.method, self.weights)


class TrainSegmenter(Settings):
    """Fine-tuning of the embedded segmenter on masks of your own; the rule runs where `masks` names some."""

    masks: tuple[str, ...] = Field(
        default=(),
        description="CSV files with the columns image, mask and optionally nucleus_marked (0 or 1), paths relative to"
        " the CSV. Mask files: grey levels 0 outside, 128 cytoplasm (or the whole cell), 255 nucleus. Each CSV is drawn"
        " from equally often.",
    )
    start: Literal["shipped", "imagenet"] = Field(
        default="shipped", description="From the weights in the package, or with an ImageNet encoder alone."
    )
    held_out: float = Field(
        default=0.1, ge=0, lt=1, description="Share of each CSV's images that is judged on and never learnt from."
    )
    steps: int = Field(default=1500, ge=1, description="Training steps.")
    batch: int = Field(default=16, ge=2, description="Views per step.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of AdamW, after warm-up.")


class Crop(Settings):
    """Settings of the stage."""

    train_segmenter: TrainSegmenter = TrainSegmenter()
    crop_cells: CropCells = CropCells()

    @model_validator(mode="after")
    def _agreed(self) -> Crop:
        if self.train_segmenter.masks and self.crop_cells.method == "stain":
            raise ValueError("train_segmenter.masks are named, but crop_cells.method is stain, which learns nothing")
        return self
