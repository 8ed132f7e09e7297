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
        default=None, description="`cellpose`: the local weights file (cpsam); it is never downloaded here."
    )
    weights_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="`cellpose`: SHA-256 the weights file must have."
    )
    cellpose_px: int = Field(
        default=256, ge=64, description="`cellpose`: side that images are resized to (256 is one tile of the network)."
    )
    batch_images: int = Field(default=64, ge=1, description="Images worked on at once, per process.")


class Crop(Settings):
    """Settings of the stage."""

    crop_cells: CropCells = CropCells()
