"""Settings of the stage `report`."""

from __future__ import annotations

from pydantic import Field, field_validator

from buffycoat.core.settings import Settings
from buffycoat.data.methods import RECIPE_NAMES, RESTORATION_NAMES, Recipe, Restoration


class ScoreLabels(Settings):
    """How sure the scores are."""

    resamples: int = Field(default=1000, ge=100, description="Bootstrap resamples of patients (or of images).")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals.")
    calibration_bins: int = Field(default=15, ge=2, description="Equal-width bins of the calibration error.")


class WritePredictions(Settings):
    """The tables of predictions and the submission: nothing to set."""


class DrawFigures(Settings):
    """How figures look."""

    dpi: int = Field(default=110, ge=50, le=400, description="Resolution of the figures, dots per inch.")


class WriteReport(Settings):
    """How much the report shows."""

    sample_cells: int = Field(default=10, ge=1, description="Cells shown on their way through the pipeline.")
    changed_cards: int = Field(default=60, ge=0, description="Changed labels shown with picture and reason, at most.")
    near_misses: int = Field(
        default=12, ge=0, description="Unchanged labels shown that one check alone kept from a change, at most."
    )
    gallery: int = Field(default=40, ge=0, description="Wrongly labelled cells shown, at most.")
    restorations: int = Field(
        default=12, ge=0, description="Restorations shown, at most: this many of the worst kept, and of the refused."
    )
    thumbnail_px: int = Field(default=120, ge=32, le=400, description="Side of the pictures, pixels.")


class CompareRecipes(Settings):
    """What `snakemake ablation` trains and compares, beside `classify.recipe` and the run's own restoration."""

    recipes: list[Recipe] = Field(default=list(RECIPE_NAMES), description="Recipes beside the main one.")  # type: ignore[arg-type]
    restorations: list[Restoration] = Field(
        default=list(RESTORATION_NAMES),  # type: ignore[arg-type]
        description="What else is done with noisy cells; for each, the main recipe is trained anew.",
    )
    resamples: int = Field(default=1000, ge=100, description="Bootstrap resamples of patients (or of images).")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals.")

    @field_validator("recipes", "restorations")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("one is named twice")
        return names


class ScoreRobustness(Settings):
    """How sure the scores of degraded images are (`snakemake ablation`)."""

    resamples: int = Field(default=1000, ge=100, description="Bootstrap resamples of patients (or of images).")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Coverage of the intervals.")


class WriteProvenance(Settings):
    """What the results were made with and from: nothing to set."""


class Report(Settings):
    """Settings of the stage."""

    score_labels: ScoreLabels = ScoreLabels()
    write_predictions: WritePredictions = WritePredictions()
    draw_figures: DrawFigures = DrawFigures()
    write_report: WriteReport = WriteReport()
    compare_recipes: CompareRecipes = CompareRecipes()
    score_robustness: ScoreRobustness = ScoreRobustness()
    write_provenance: WriteProvenance = WriteProvenance()
