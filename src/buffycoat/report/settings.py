"""Settings of the stage `report`."""

from __future__ import annotations

from pydantic import Field, field_validator

from buffycoat.core.settings import Settings
from buffycoat.data.methods import RECIPE_NAMES, RESTORATION_NAMES, Recipe, Restoration


class CompareRecipes(Settings):
    """What the target `ablation` trains and compares, beside `classify.recipe` and the run's own restoration."""

    recipes: list[Recipe] = Field(default=list(RECIPE_NAMES), description="Recipes beside the main one.")  # type: ignore[arg-type]
    restorations: list[Restoration] = Field(
        default=list(RESTORATION_NAMES),  # type: ignore[arg-type]
        description="What else is done with noisy cells; for each, the main recipe is trained anew.",
    )

    @field_validator("recipes", "restorations")
    @classmethod
    def _once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("one is named twice")
        return names

    def with_main(self, recipe: str) -> list[str]:
        """Return the recipes that are compared, the main one first."""
        return list(dict.fromkeys([recipe, *self.recipes]))

    def others_than(self, restoration: str) -> list[str]:
        """Return the restorations that are compared with the run's own."""
        return [name for name in self.restorations if name != restoration]


class Report(Settings):
    """Settings of the stage."""

    compare_recipes: CompareRecipes = CompareRecipes()
