"""The thirteen white blood cell classes of WBCBench 2026: code, name, order. Listed here and nowhere else.

Source: WBCBench 2026 (arXiv 2604.10797); the order is the challenge's own index.
"""

from __future__ import annotations

CELL_TYPES: dict[str, str] = {
    "BA": "basophil",
    "BL": "blast",
    "BNE": "band neutrophil",
    "EO": "eosinophil",
    "LY": "lymphocyte",
    "MMY": "metamyelocyte",
    "MO": "monocyte",
    "MY": "myelocyte",
    "PC": "plasma cell",
    "PLY": "prolymphocyte",
    "PMY": "promyelocyte",
    "SNE": "segmented neutrophil",
    "VLY": "variant lymphocyte",
}
"""Name of each class by its code, in the challenge's order."""


def name_of(code: str) -> str:
    """Return the full name of a class, or the code itself where the class is a user's own."""
    return CELL_TYPES.get(code, code)
