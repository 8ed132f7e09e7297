"""Settings of the stage `embed`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from buffycoat.core.settings import Emptied, Settings, TextKeys


class EmbedCells(Settings):
    """Which encoder, and how crops reach it."""

    encoder: str = Field(
        default="medsiglip",
        description="`efficientnet_lite0` (its weights ship in a package), `medsiglip`, `open_clip:` or `timm:` and a"
        " hub id, a folder or an architecture's name (docs/encoders.md).",
    )
    weights: str | None = Field(
        default=None,
        description="Local weights: for `medsiglip` the folder of the published checkpoint (paper), for an"
        " architecture's name a safetensors file; hub ids (from the local cache) and folders bring theirs. Nothing is"
        " downloaded.",
    )
    size_px: int = Field(default=448, ge=32, description="Side that crops are resized to (MedSigLIP: 448).")
    background: Literal["keep", "white"] = Field(default="white", description="`white`: outside the cell is 255.")
    prompt: str = Field(
        default="a microscope image of a white blood cell of the type <name>",
        pattern=r"^[^<>{}]*<name>[^<>{}]*$",  # braces would be wildcards to Snakemake
        description="What an encoder with text is told of a class, whose full name stands for `<name>`.",
    )


class TrainHead(Settings):
    """The contrastive head (arXiv 2603.16249), fitted on the same folds as branch A."""

    hidden: tuple[int, ...] = Field(default=(1024, 512), min_length=1, description="Widths of the hidden layers.")
    epochs: int = Field(default=15, ge=1, description="Passes (paper: 15; public implementation: 150).")
    learning_rate: float = Field(default=1e-4, gt=0, description="Of AdamW, cosine to zero.")
    noise: float = Field(
        default=0.0, ge=0, description="Gaussian noise per dimension on the unit vectors (public implementation: 0.06)."
    )
    standardise: bool = Field(
        default=True, description="Scale each dimension to mean 0, variance 1 of the rows learned from (paper: no)."
    )
    sampler: Literal["none", "sqrt", "balanced"] = Field(
        default="sqrt", description="How often a row of a class of n is drawn: 1, 1/sqrt(n), 1/n."
    )
    multipliers: Annotated[dict[str, float], TextKeys, Emptied] = Field(
        default_factory=dict,
        description="Further factors per class (public implementation: PC, PLY 50; MMY, BNE 5; SNE, LY 0.5).",
    )
    cross_fit: bool = Field(
        default=True,
        description="One head per fold, so that every training row is judged by a head that did not see it. false: one"
        " head on everything (public implementation); training rows are then `in_sample`.",
    )


class Embed(Settings):
    """Settings of the stage."""

    embed_cells: EmbedCells = EmbedCells()
    train_head: TrainHead = TrainHead()
