"""Settings of the stage `restore`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from buffycoat.core.settings import Settings
from buffycoat.data.methods import Restoration

Kind = Literal["salt_and_pepper", "coloured_gaussian", "blur", "illumination"]


class MakePairs(Settings):
    """Which clean training crops the synthetic pairs are made from."""

    held_out: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the groups (images where groups are unknown) judged on only."
    )


class TrainGan(Settings):
    """Pix2Pix (doi 10.1109/CVPR.2017.632) on pairs made on the fly."""

    kinds: tuple[Kind, ...] = Field(
        default=("salt_and_pepper", "coloured_gaussian", "blur", "illumination"),
        min_length=1,
        description="Degradations of the mixture (paper: salt_and_pepper alone).",
    )
    severity: tuple[float, float] = Field(
        default=(1.0, 4.0), description="Range that the severity of a pair is drawn from, uniformly."
    )
    depth: int = Field(default=5, ge=3, le=8, description="Halvings of the U-Net (paper: 8, U-Net-256).")
    width: int = Field(default=64, ge=4, description="Channels of the first layer (paper: 64).")
    upsampling: Literal["resize", "transposed"] = Field(
        default="resize",
        description="`resize`: bilinear, then convolution, no checkerboard; `transposed`: as in the paper.",
    )
    norm: Literal["instance", "batch", "none"] = Field(
        default="instance",
        description="Normalisation inside both networks. `batch` (paper) makes an image's output depend on its batch in"
        " training; `instance` and `none` do not. `none` takes a quarter less time per step on a CPU.",
    )
    discriminator_width: int = Field(
        default=64, ge=4, description="Channels of the discriminator's first layer (paper: 64)."
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
    warm_up: float = Field(
        default=0.02, ge=0, lt=1, description="Share of the steps over which the learning rate rises (paper: 0)."
    )
    decay: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the steps, at the end, over which the learning rate falls to zero in a straight line"
        " (paper: 0.5).",
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
    bf16_on_cpu: bool = Field(default=False, description="bfloat16 on CPUs too: faster where the CPU has it.")
    report_every: int = Field(default=1000, ge=1, description="Steps between checkpoints, judgements and log lines.")

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
    guard: bool = Field(default=True, description="Keep the original where the checks below fail (paper: no guard).")
    max_nucleus_change: float = Field(
        default=0.2, gt=0, description="Refuse where the nucleus's area changes by more than this share, either way."
    )
    max_cell_change: float = Field(
        default=0.15, gt=0, description="Refuse where the cell's area changes by more than this share, either way."
    )
    batch: int = Field(default=32, ge=1, description="Crops restored at once.")


class Restore(Settings):
    """Settings of the stage."""

    make_pairs: MakePairs = MakePairs()
    train_gan: TrainGan = TrainGan()
    restore_cells: RestoreCells = RestoreCells()
