"""Classifies white blood cells in smear images when the classes that matter are the rare ones.

The stages, in the order in which files flow:

simulate    draws the embedded data set
index       checks every image and label once, and makes the folds
crop        finds and cuts out the primary white cell
partition   flags noisy crops
restore     restores them where that helps
classify    branch A: five folds of an image classifier
embed       branch B: embeddings and a contrastive head
measure     shape, size and colour of each cell
refine      finds rare cells again, with evidence
review      names the images that a person should look at
report      scores, predictions, submission, and a page for a person
bundle      everything that was learned, in one folder, and labels for new images from it

`buffycoat.Predictor` labels new images from a bundle; it is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from buffycoat.bundle.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """Import `Predictor`, and torch with it, when it is first asked for."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from buffycoat.bundle.predictor import Predictor

    return Predictor
