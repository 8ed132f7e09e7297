"""Settings of the stage `partition`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.settings import Settings


class MeasureNoise(Settings):
    """The scores have no settings: their definitions are in scores.py."""


class FlagNoisy(Settings):
    """From which noise score a crop counts as noisy."""

    threshold: Literal["fixed", "fitted"] = Field(
        default="fitted", description="`fixed`: `level`; `fitted`: from the scores of the training rows."
    )
    level: float = Field(
        default=20.0, gt=0, le=255, description="`fixed`: noise score, grey levels (public implementation: 20)."
    )
    spread: float = Field(
        default=3.5,
        gt=0,
        description="`fitted`: a crop is noisy when its log score lies this many robust standard deviations above the"
        " median of the cleaner half.",
    )


class Partition(Settings):
    """Settings of the stage."""

    measure_noise: MeasureNoise = MeasureNoise()
    flag_noisy: FlagNoisy = FlagNoisy()
