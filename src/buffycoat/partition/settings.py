"""Settings of the stage `partition`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.core.settings import Settings


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


class Partition(Settings):
    """Settings of the stage."""

    flag_noisy: FlagNoisy = FlagNoisy()
