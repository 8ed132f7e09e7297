"""What fitted rules are, as types and as JSON: references, a discriminant and a state for each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, write_json
from buffycoat.core.settings import Settings
from buffycoat.core.steps import describe_validation
from buffycoat.refine.settings import Rule

BOX_FEATURES = ("area_px", "cell_level", "cell_level_sd", "red_blue_ratio", "nucleus_ratio")
"""Columns of the table of morphology that the gate `box` looks at."""

DISTANCE_FEATURES = (
    "area_px",
    "cell_level",
    "red_blue_ratio",
    "nucleus_ratio",
    "nucleus_offset_radii",
    "cytoplasm_level",
)
"""Columns of the table of morphology that make the vector v of the gate `mahalanobis`."""

LIKENESS_FEATURES = (
    "area_px",
    "spikiness",
    "irregularity",
    "cell_circularity",
    "eccentricity",
    "nucleus_ratio",
    "nucleus_offset_radii",
    "solidity",
    "cell_level",
    "red_blue_ratio",
    "cytoplasm_level",
    "chromatin_contrast",
    "granularity",
)
"""Columns of the table of morphology that the gate `likeness` weighs."""


class Reference(Settings):
    """What cells of the rescued class look like while they hide in one host."""

    cells: int = Field(description="Training cells it was fitted on.")
    cells_of: Literal["host", "all_hosts"] = Field(description="Whether those all hide in this host, or were pooled.")
    own_share: float = Field(description="Share of the covariance that is the class's own; the rest is borrowed.")
    mean: dict[str, float] = Field(description="Mean of v.")
    scale: dict[str, float] = Field(description="Within-class standard deviation of v, the unit of the covariance.")
    covariance: tuple[tuple[float, ...], ...] = Field(description="Covariance of v / scale, in the order of `mean`.")
    max_distance: float = Field(description="Largest Mahalanobis distance that passes.")
    max_distance_from: Literal["cross_fitted", "chi_squared"] = Field(
        description="Quantile of distances to references fitted without the cell's fold, or, with too few, of chi."
    )
    box: dict[str, tuple[float, float]] = Field(description="Range of each feature that passes, ends included.")


class Likeness(Settings):
    """A linear discriminant of the rescued class against those that it hides in."""

    cells: int = Field(description="Training cells of the rescued class that it was fitted on.")
    others: int = Field(description="Training cells of other classes, given to its hosts, that it was fitted on.")
    mean: dict[str, float] = Field(description="Mean of each feature.")
    scale: dict[str, float] = Field(description="Standard deviation of each feature.")
    weights: dict[str, float] = Field(description="Weight of each standardised feature.")
    offset: float = Field(description="Added to the weighted sum, which then is a log-odds.")
    least: float = Field(description="Log-odds from which on a cell passes.")


class FittedRule(Settings):
    """A rule, its references by host, and whether it is on."""

    rule: Rule
    state: Literal["on", "off"]
    reason: str = Field(description="One sentence: why it is on or off.")
    macro_f1_without: float | None = Field(default=None, description="Out-of-fold macro-F1 without this rule.")
    macro_f1_with: float | None = Field(default=None, description="Out-of-fold macro-F1 with it, cross-fitted.")
    changed: int | None = Field(default=None, description="Out-of-fold labels that it changes.")
    without_rise: float | None = Field(
        default=None, description="Share of resamples of patients, of those that hold the class, without a rise by it."
    )
    kept_shares: dict[str, float | None] = Field(
        default={}, description="Share of the class's mistaken cells that each fitted check lets pass; null: left out."
    )
    references: dict[str, Reference] = {}
    likeness: Likeness | None = None


class Rulebook(Settings):
    """All rules, in order."""

    rows: int = Field(description="Training cells that the rules were fitted and judged on, all out of fold.")
    without_embedding: int = Field(description="Those of them without a probability from branch B.")
    unmeasured: int = Field(description="Those of them without a morphology.")
    rules: tuple[FittedRule, ...]
    by_fold: dict[int, tuple[FittedRule, ...]] = Field(
        description="The same, for each fold's own cells: found and fitted without them; of the rules that are on."
    )

    def active(self) -> list[FittedRule]:
        """Return the rules that are on, in order."""
        return [fitted for fitted in self.rules if fitted.state == "on"]


def write_rulebook(rulebook: Rulebook, path: Path) -> None:
    """Write the rules as JSON."""
    write_json(rulebook.model_dump(mode="json"), path)


def read_rulebook(path: Path) -> Rulebook:
    """Read the rules; raises InputError where the file is missing, damaged or of another form."""
    try:
        return Rulebook.model_validate(read_json(path))
    except ValidationError as problem:
        what = describe_validation(problem, "")
        raise InputError(f"{path}: not fitted rules ({what}); delete it and run again") from None
