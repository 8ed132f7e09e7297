"""Settings of the stage `crop`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.settings import Settings


class CropCells(Settings):
    """How the primary white cell is found and cut out."""

    method: Literal["stain", "cellpose"] = Field(
        default="stain",
        description="`stain`: classical, from the dark purple nucleus outwards, no weights; `cellpose`: Cellpose-SAM"
        " from a local weights file.",
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
    min_nucleus_share: float = Field(
        default=0.004, gt=0, lt=1, description="Smaller dark regions are platelets or dirt; share of the image's area."
    )
    centrality: float = Field(
        default=0.35, gt=0, description="Spread of the preference for central cells, share of the image's side."
    )
    weights: str | None = Field(
        default=None,
        description="`cellpose`: the local weights file, the published `cpsam` or a fine-tuned one (safetensors); it is"
        " never downloaded by a run, see docs/running.md.",
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


class Crop(Settings):
    """Settings of the stage."""

    crop_cells: CropCells = CropCells()
