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
    work_px: int = Field(
        default=160, ge=64, description="`stain`: longer side that an image is reduced to while the cell is sought."
    )
    min_cell_share: float = Field(
        default=0.004, ge=0, lt=1, description="`embedded`: smaller cells are dirt; share of the image's area."
    )
    min_nucleus_share: float = Field(
        default=0.004,
        gt=0,
        lt=1,
        description="`stain`, `cellpose`: smaller dark regions are platelets or dirt; share of the image's area.",
    )
    centrality: float = Field(
        default=0.35, gt=0, description="Spread of the preference for central cells, share of the image's side."
    )
    weights: str | None = Field(
        default=None,
        description="`cellpose`: the local weights file, the published `cpsam` or one that Cellpose fine-tuned;"
        " it is never downloaded by a run, see docs/running.md.",
    )
    weights_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="`cellpose`: SHA-256 the weights file must have."
    )
    cellpose_px: int = Field(
        default=240,
        ge=64,
        description="`cellpose`: longer side that larger images are reduced to. 240 is the most that is one tile of the"
        " network (Cellpose pads each side by 8 pixels to 256; 256 would be four tiles, 1.2 times 272 being more than"
        " one), and the white cell of a close-up comes nearer the 7.5 to 120 pixels of diameter that Cellpose-SAM was"
        " trained on. Smaller images are not enlarged: they fill one tile as they are.",
    )
    cellpose_tiles: int = Field(
        default=64,
        ge=1,
        description="`cellpose`: tiles the network takes at once; halved by itself where the GPU's memory runs out.",
    )
    batch_images: int = Field(default=64, ge=1, description="Images worked on at once, per process.")

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
    ema: float = Field(default=0.995, ge=0, lt=1, description="Decay of the averaged weights, which are the ones kept.")
    report_every: int = Field(default=100, ge=1, description="Steps between checkpoints, judgements and log lines.")


class Crop(Settings):
    """Settings of the stage."""

    train_segmenter: TrainSegmenter = TrainSegmenter()
    crop_cells: CropCells = CropCells()

    @model_validator(mode="after")
    def _agreed(self) -> Crop:
        if self.train_segmenter.masks and self.crop_cells.method == "stain":
            raise ValueError("train_segmenter.masks are named, but crop_cells.method is stain, which learns nothing")
        return self
