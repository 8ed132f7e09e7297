from __future__ import annotations

import pytest

from buffycoat.data.methods import BODY_OF, RECIPE_NAMES, body_model


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_a_recipe_starts_from_the_body_it_names_on_the_same_cells(recipe: str) -> None:
    if recipe not in BODY_OF:
        assert body_model("pix2pix", recipe, "2") == [] == body_model("median", recipe, "2")
    else:
        for restoration in ("pix2pix", "median"):
            assert body_model(restoration, recipe, "2") == [
                f"results/5_classify/{restoration}/{BODY_OF[recipe]}/fold_2/model.safetensors"
            ]
