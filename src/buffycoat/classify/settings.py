"""Settings of the stage `classify`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.settings import Options, Settings


class TrainFold(Settings):
    """One fold's training. The defaults are for full-size data on a GPU."""

    backbone: str = Field(default="swin_tiny_patch4_window7_224", description="Name of a timm model (paper: Swin-T).")
    backbone_options: Options = Field(
        default_factory=dict, description="Passed to timm.create_model, e.g. img_size, window_size, embed_dim."
    )
    weights: str | None = Field(
        default=None,
        description="Where training starts: `embedded` (ImageNet weights of tf_efficientnet_lite0, which ship in a"
        " package), a local safetensors file in timm's names, or none: from scratch.",
    )
    size_px: int = Field(default=224, ge=16, description="Side that crops are resized to, pixels.")
    background: Literal["keep", "white"] = Field(
        default="white", description="`white`: everything outside the cell is set to 255, as in the paper."
    )
    frozen_stages: int = Field(
        default=0, ge=0, description="First stages that are not trained (stem counts as one): faster backward passes."
    )
    epochs: int = Field(default=20, ge=1, description="Passes over as many draws as there are training images.")
    batch: int = Field(default=128, ge=1, description="Images per step (paper: 128).")
    learning_rate: float = Field(default=5e-4, gt=0, description="Peak rate of AdamW (paper: 1e-4).")
    head_rate: float = Field(default=1.0, gt=0, description="Rate of the classifier, as a multiple of the peak rate.")
    weight_decay: float = Field(default=0.01, ge=0, description="Of AdamW (paper: 0.01).")
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising rate (paper: 0).")
    clip_norm: float = Field(default=1.0, ge=0, description="Largest norm of the gradient; 0: not clipped (paper).")
    ema: float = Field(default=0.99, ge=0, lt=1, description="Decay of the averaged weights; 0: none (paper).")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="Of cross-entropy (paper: 0).")
    sampler: Literal["none", "log", "sqrt", "balanced"] = Field(
        default="sqrt",
        description="How often an image of a class of n is drawn: 1, 1/ln(1+n) (paper), 1/sqrt(n), 1/n.",
    )
    class_weights: Literal["none", "log"] = Field(
        default="none", description="Weight of a class in the loss; `log`: by 1/ln(1+n), mean one (paper)."
    )
    gamma: float = Field(default=2.0, ge=0, description="Focusing of the focal loss (paper: 2).")
    focal_p: Literal["weighted", "textbook"] = Field(
        default="textbook",
        description="p_t of the focal loss: `textbook` p_y; `weighted` exp(-w_y CE), as in the public implementation.",
    )
    choose: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch is kept; `best` (paper): by the held-out fold's macro-F1, which is then optimistic.",
    )
    rotation: Literal["none", "quarter", "any"] = Field(
        default="any", description="Random rotation: none, by quarter turns, or by any angle."
    )
    flip: bool = Field(default=True, description="Random mirroring.")
    scale: float = Field(default=0.15, ge=0, lt=1, description="Random zoom: factor exp(U(-scale, scale)).")
    shift: float = Field(default=0.05, ge=0, lt=0.5, description="Random shift, share of the side, each way.")
    brightness: float = Field(default=0.1, ge=0, lt=1, description="Random gain of all channels, each way.")
    colour: float = Field(default=0.1, ge=0, lt=1, description="Random gain of each channel, each way.")
    contrast: float = Field(default=0.1, ge=0, lt=1, description="Random contrast around the mean, each way.")


class PredictFold(Settings):
    """Prediction in the eight views of the square's symmetry group D4."""

    views: int = Field(default=8, ge=1, le=8, description="Elements of D4 used; 8 are all, 1 is the image as it is.")
    batch: int = Field(default=256, ge=1, description="Images per forward pass.")
    bf16_on_cpu: bool = Field(default=False, description="bfloat16 on CPUs too: faster where the CPU has it.")


class CombineFolds(Settings):
    """Mean of softmax over views and folds: nothing to set."""


class Classify(Settings):
    """Settings of the stage."""

    recipe: Literal["focal", "cross_entropy"] = Field(
        default="focal", description="The loss whose predictions go on to refinement."
    )
    train_fold: TrainFold = TrainFold()
    predict_fold: PredictFold = PredictFold()
    combine_folds: CombineFolds = CombineFolds()
