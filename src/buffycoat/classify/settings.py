"""Settings of the stage `classify`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from buffycoat.core.settings import Options, Settings
from buffycoat.data.methods import Recipe


class TrainFold(Settings):
    """One fold's training. The defaults are for full-size data on a GPU."""

    backbone: str = Field(
        default="swin_tiny_patch4_window7_224",
        description="A timm model by name (paper: Swin-T), `local-dir:FOLDER` in timm's hub layout, or"
        " `hf-hub:OWNER/NAME`, which must be in the local cache: nothing is downloaded.",
    )
    backbone_options: Options = Field(
        default_factory=dict, description="Passed to timm.create_model, e.g. img_size, window_size, embed_dim."
    )
    weights: str | None = Field(
        default=None,
        description="Where training starts: `embedded` (ImageNet weights of tf_efficientnet_lite0, which ship in a"
        " package), a local safetensors file in timm's names, or null: the file of the folder or hub, for a plain name"
        " from scratch.",
    )
    size_px: int = Field(default=224, ge=16, description="Side that crops are resized to, pixels.")
    background: Literal["keep", "white"] = Field(
        default="white", description="`white`: everything outside the cell is set to 255, as in the paper."
    )
    frozen_stages: int = Field(
        default=0, ge=0, description="First stages that are not trained (stem counts as one): faster backward passes."
    )
    epochs: int = Field(
        default=20,
        ge=1,
        description="Passes over the training images, each in whole batches: what does not fill a batch is left out of"
        " that pass. Where draws re-balance the classes, a pass is as many draws, with replacement.",
    )
    batch: int = Field(default=128, ge=1, description="Images per step (paper: 128).")
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak rate of AdamW (paper: 1e-4).")
    head_rate: float = Field(default=1.0, gt=0, description="Rate of the classifier, as a multiple of the peak rate.")
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising rate (paper: 0).")
    clip_norm: float = Field(default=1.0, ge=0, description="Largest norm of the gradient; 0: not clipped (paper).")
    ema: float = Field(default=0.99, ge=0, lt=1, description="Decay of the averaged weights; 0: none (paper).")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Of cross-entropy (paper: 0).")
    imbalance: Literal["none", "sampler", "loss", "both"] = Field(
        default="sampler",
        description="Where recipe `focal` re-balances classes: nowhere, in the draws, in the loss, or in both, which"
        " multiply (paper). The other recipes say themselves.",
    )
    rebalance: Literal["log", "sqrt", "balanced"] = Field(
        default="sqrt",
        description="How strongly `focal` and `oversampling` re-balance a class of n: by 1/ln(1+n) (paper), 1/sqrt(n),"
        " 1/n.",
    )
    focal_p: Literal["weighted", "textbook"] = Field(
        default="textbook",
        description="p_t of the focal loss: `textbook` p_y; `weighted` exp(-w_y CE), as in the public implementation.",
    )
    choose: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch is kept; `best` (paper): by the held-out fold's macro-F1, which is then optimistic.",
    )
    augmentation: Literal["standard", "paper"] = Field(
        default="standard",
        description="What else is random beside rotation, shift and mirroring. `standard`: zoom, light, colour,"
        " contrast, stain, and a tenth of the images degraded; `paper`: brightness and contrast, more strongly. The"
        " numbers stand in classify/augment.py.",
    )
    rotation: Literal["none", "quarter", "any"] = Field(
        default="any", description="Random rotation: none, by quarter turns, or by any angle."
    )
    shift: float = Field(default=0.05, ge=0, lt=0.5, description="Random shift, share of the side, each way.")


class PredictFold(Settings):
    """Prediction in the eight views of the square's symmetry group D4."""

    views: int = Field(
        default=8,
        ge=1,
        le=8,
        description="How many of the eight turned and mirrored copies of a cell are predicted and averaged. 1: the cell"
        " as it is, faster.",
    )


class CombineFolds(Settings):
    """Mean of softmax over views and folds."""

    temperature: Literal["fitted", "none"] = Field(
        default="fitted",
        description="`fitted`: logits are divided by a temperature fitted on held-out images (of the other folds, where"
        " an image belongs to one); `none`: as they are (paper).",
    )


class PredictDegraded(Settings):
    """Held-out images, degraded on purpose: how branch A bears noise, blur and light (target `ablation`)."""

    severities: tuple[float, ...] = Field(
        default=(1.0, 2.0, 3.0, 4.0),
        min_length=1,
        description="Severities of each of the four degradations, above 0; 4 is the worst level.",
    )

    @field_validator("severities")
    @classmethod
    def _severe(cls, severities: tuple[float, ...]) -> tuple[float, ...]:
        if min(severities) <= 0 or max(severities) > 4 or len(set(severities)) < len(severities):
            raise ValueError("severities lie above 0 and up to 4, each once")
        return severities


class Classify(Settings):
    """Settings of the stage."""

    recipe: Recipe = Field(default="focal", description="The long-tail recipe whose predictions go on to refinement.")
    train_fold: TrainFold = TrainFold()
    predict_fold: PredictFold = PredictFold()
    combine_folds: CombineFolds = CombineFolds()
    predict_degraded: PredictDegraded = PredictDegraded()
