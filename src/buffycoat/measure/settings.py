"""Settings of the stage `measure`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from buffycoat.core.settings import Settings


class MeasureCells(Settings):
    """How shape, size and colour of a cell are measured."""

    nucleus: Literal["carried", "grey"] = Field(
        default="carried",
        description="`carried`: the nucleus of the mask, and `grey` where the mask has none; `grey`: pixels darker than"
        " the midpoint of a 2-means split of the cell's grey levels (public implementation).",
    )


class Measure(Settings):
    """Settings of the stage."""

    measure_cells: MeasureCells = MeasureCells()
