"""Settings of the stage `simulate`."""

from __future__ import annotations

from pydantic import Field

from buffycoat.core.settings import Settings


class DrawSmears(Settings):
    """Size of the drawn data set."""

    images: int = Field(
        default=1600,
        ge=60,
        description="Images in all parts together, before the least counts per class (real: 55012).",
    )
    patients: int = Field(default=60, ge=16, description="Patients in all parts together (real: 493).")
    least_per_class: int = Field(
        default=6, ge=1, description="Least images of a class in the training and in the test part; a third elsewhere."
    )


class Simulate(Settings):
    """Settings of the stage."""

    draw_smears: DrawSmears = DrawSmears()
