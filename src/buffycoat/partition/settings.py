"""Settings of the stage `partition`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.core.settings import Settings


class MeasureNoise(Settings):
    """The scores have no settings: their definitions are in scores.py."""


class FlagNoisy(Settings):
    """From which scores a crop counts as noisy, blurred or badly lit."""

    noise_over: Literal["field", "cell"] = Field(
        default="field",
        description="Noise that is compared with the threshold. `cell`: over the cell (paper); `field`: the geometric"
        " mean of that and the noise of the surroundings, so that granules do not pass for noise; not for images"
        " whose background was removed.",
    )
    threshold: Literal["fixed", "fitted"] = Field(
        default="fitted", description="`fixed`: `level`; `fitted`: from the scores of the training rows."
    )
    level: float = Field(
        default=20.0,
        gt=0,
        le=255,
        description="`fixed`: noise, grey levels (public implementation: 20). `fitted`: the highest threshold that a"
        " fit may give, for data in which nearly every image is noisy.",
    )
    spread: float = Field(
        default=5.0,
        gt=0,
        description="`fitted`: a crop is noisy when the logarithm of its noise lies this many robust standard"
        " deviations above that of clean crops.",
    )
    blur_level: float | None = Field(
        default=None, gt=0, lt=1, description="Blur score from which a crop counts as blurred; null: fitted."
    )
    blur_spread: float = Field(
        default=3.5,
        gt=0,
        description="A crop is blurred when the logarithm of 1 / (1 - blur score) lies this many robust standard"
        " deviations above that of clean crops.",
    )
    light_spread: float = Field(
        default=3.5,
        gt=0,
        description="A crop is badly lit when level, gradient or colour of its background lies this many robust"
        " standard deviations from the usual one.",
    )


class Partition(Settings):
    """Settings of the stage."""

    measure_noise: MeasureNoise = MeasureNoise()
    flag_noisy: FlagNoisy = FlagNoisy()
