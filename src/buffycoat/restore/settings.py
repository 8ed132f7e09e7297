"""Settings of the stage `restore`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from buffycoat.core.settings import Settings
from buffycoat.data.methods import Restoration

Kind = Literal["salt_and_pepper", "coloured_gaussian", "blur", "illumination"]
Width = Annotated[int, Field(ge=4)]
WarmUp = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=1)]


class TrainGan(Settings):
    """Pix2Pix (doi 10.1109/CVPR.2017.632) on pairs made on the fly."""

    pairs: Literal["made", "given"] = Field(
        default="made",
        description="`made`: clean training crops and degraded copies of them; `given`: the degraded images of the data"
        " and their clean forms (WBCBench's full release), no kinds needed.",
    )
    kinds: tuple[Kind, ...] = Field(
        default=("salt_and_pepper", "coloured_gaussian", "blur", "illumination"),
        min_length=1,
        description="Degradations of the mixture (paper: salt_and_pepper alone).",
    )
    depth: int = Field(default=5, ge=3, le=8, description="Halvings of the U-Net (paper: 8, U-Net-256).")
    widths: tuple[Width, Width] = Field(
        default=(64, 64), description="Channels of the first layer of generator and discriminator (paper: 64, 64)."
    )
    upsampling: Literal["resize", "transposed"] = Field(
        default="resize",
        description="`resize`: bilinear, then convolution, no checkerboard; `transposed`: as in the paper.",
    )
    norm: Literal["instance", "batch", "none"] = Field(
        default="instance",
        description="Normalisation inside both networks. `batch` (paper) makes an image's output depend on its batch in"
        " training; `instance` and `none` do not. `none` takes a quarter less time per step on a CPU.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="In the inner decoder (paper: 0.5).")
    residual: bool = Field(
        default=True, description="The generator predicts a correction of its input instead of the image (paper: no)."
    )
    lambda_l1: float = Field(default=300.0, gt=0, description="Weight of the L1 loss (paper: 100).")
    lambda_features: float = Field(
        default=30.0,
        ge=0,
        description="Weight of the difference in features of EfficientNet-Lite0 with ImageNet weights, which keeps what"
        " tells classes apart; 0: none (paper).",
    )
    steps: int = Field(default=20_000, ge=1, description="Training steps; the paper's 200 epochs are 10 times as many.")
    batch: int = Field(default=32, ge=1, description="Pairs per step (paper: 32).")
    learning_rate: float = Field(default=5e-4, gt=0, description="Of Adam, beta1 0.5 (paper: 2e-4).")
    schedule: tuple[WarmUp, Decay] = Field(
        default=(0.02, 1.0),
        description="Shares of the steps over which the learning rate rises, at the start, and falls to zero, at the"
        " end, in straight lines (paper: 0, 0.5).",
    )
    patch_px: int = Field(
        default=0,
        ge=0,
        description="Side of the square patch of a crop that is trained on, pixels; 0, or one larger than the crop:"
        " whole crops (paper). The networks are fully convolutional, so smaller patches buy more varied steps.",
    )
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="Decay of the averaged generator that is kept; 0: the last one (paper)."
    )

    @field_validator("patch_px")
    @classmethod
    def _large_enough(cls, side: int) -> int:
        if 0 < side < 32:
            raise ValueError("patches under 32 pixels leave nothing for the discriminator to judge")
        return side


class RestoreCells(Settings):
    """What is restored, and the guard that keeps the original where restoration does not help."""

    method: Restoration = Field(
        default="pix2pix", description="`keep` restores nothing; `median` is a 3x3 median filter."
    )
    guard: bool = Field(
        default=True,
        description="Keep the original where the restored crop is not less noisy, or where the area of nucleus or cell"
        " changes by too much (paper: no guard).",
    )


class Restore(Settings):
    """Settings of the stage."""

    train_gan: TrainGan = TrainGan()
    restore_cells: RestoreCells = RestoreCells()
