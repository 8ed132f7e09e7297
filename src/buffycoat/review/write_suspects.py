"""Step `write_suspects`: the images that a person should look at, as a page with pictures and as a spreadsheet."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from buffycoat.core.steps import run
from buffycoat.data.cell_types import name_of
from buffycoat.data.drawn import note_on
from buffycoat.data.images import CellImages
from buffycoat.data.pages import data_address, outlined, write_page, write_spreadsheet
from buffycoat.data.tables.restore import CELLS
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.data.tables.schema import require_same_keys

log = logging.getLogger("buffycoat")
MOST, THUMBNAIL_PX = 24, 120
"""Cells shown of each kind of suspicion, at most, and the side of their pictures, pixels; the CSV has all cells."""

KINDS: dict[str, tuple[str, list[str], str]] = {
    "label": (
        "Labels in doubt",
        ["label_rank", "label_doubt"],
        "Training images whose given label is contradicted by models that have not learned them. Classes take turns,"
        " the most doubtful of each first, so that a frequent class does not fill the page.",
    ),
    "no_cell": (
        "No white cell found",
        ["energy"],
        "The segmenter found no white cell: what lies in the middle of the window was labelled, whatever it is.",
    ),
    "several_cells": (
        "Several white cells",
        ["cells"],
        "More than one white cell was found, and one of them was labelled: the label says nothing of the others.",
    ),
    "probability": (
        "Unsure",
        ["probability"],
        "Branch A's highest probability is so low that among training images with at most this much half or more were"
        " labelled wrong, or that hardly any training image had less.",
    ),
    "disagreement": (
        "Branches that disagree",
        ["disagreement"],
        "Branch A (the fold ensemble) and branch B (the foundation model's embedding) are both sure, each of another"
        " class.",
    ),
    "energy": (
        "Little evidence for any class",
        ["energy"],
        "The logits of branch A are low for every class: perhaps a blurred cell, an artefact, a cell between two"
        " classes, or a class that nobody has named.",
    ),
    "distance": (
        "Far from every class",
        ["feature_distance"],
        "The embedding lies far from the mean of every class: perhaps a stain, a microscope or a kind of cell that the"
        " training images hardly hold, or something else in the picture.",
    ),
}
"""Per kind of suspicion: a heading, the columns that its list is in order of, what it means."""
RISING = ("label_rank", "probability")
"""Columns whose smallest values are the most suspect."""
VALUES = ("probability", "energy", "feature_distance", "disagreement", "label_doubt")


def of_kind(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows that are suspect in this way, the most suspect first."""
    rows = table[[kind in names.split(",") for names in table["kinds"]]]
    order = KINDS[kind][1]
    return rows.sort_values(order, ascending=[name in RISING for name in order], kind="stable")


def value_texts(row: dict[Any, Any]) -> list[str]:
    """Return 'energy -2.31', 'distance 9.4 SD' and so on for what is known of an image."""
    shown = {
        "probability": f"probability {row['probability']:.2f}",
        "energy": f"energy {row['energy']:.2f}",
        "feature_distance": f"distance {row['feature_distance']:.1f} SD",
        "disagreement": f"divergence {row['disagreement']:.2f}",
        "label_doubt": f"doubt {row['label_doubt']:.2f}",
    }
    return [shown[name] for name in VALUES if not pd.isna(row[name])]


def cards(rows: pd.DataFrame, cells: CellImages, side: int) -> list[dict[str, Any]]:
    """Return a card per row: the cell with its outlines, its labels, values and sentence."""
    place = {image_id: position for position, image_id in enumerate(cells.ids)}
    return [
        {
            "image_id": row["image_id"],
            "role": row["role"],
            "picture": data_address(outlined(cells.crop(k), cells.mask(k), side)),
            "given": None if pd.isna(row["given_label"]) else row["given_label"],
            "branch_a": row["branch_a_label"],
            "branch_b": "–" if pd.isna(row["branch_b_label"]) else row["branch_b_label"],
            "values": value_texts(row),
            "reason": row["reason"],
        }
        for row in rows.to_dict("records")
        for k in [place[row["image_id"]]]
    ]


def sections(table: pd.DataFrame, cells: CellImages) -> list[dict[str, Any]]:
    """Return, per kind, its heading and meaning, how many there are, and the cards of the first of them."""
    found = []
    for kind, (title, _, meaning) in KINDS.items():
        rows = of_kind(table, kind)
        learned = int((rows["source"] == "out_of_fold").sum())
        shown = cards(rows.head(MOST), cells, THUMBNAIL_PX)
        counts = {"training": learned, "others": len(rows) - learned}
        found.append({"kind": kind, "title": title, "meaning": meaning, "cards": shown, "rows": len(rows), **counts})
    return found


def spreadsheet_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the suspect rows, those of most kinds first, then the most doubtful label, then the highest energy."""
    rows = table[table["suspect"]].drop(columns="suspect")
    many = rows["kinds"].str.count(",")
    order = ["many", "label_doubt", "energy_quantile"]
    return rows.assign(many=many).sort_values(order, ascending=False, kind="stable").drop(columns="many")


def write_suspects(*, suspects: Path, cells: Path, page: Path, csv: Path, data: str) -> None:
    """Write the page and the CSV of all suspects; no label is changed, and nothing is left out of any score.

    `data` is the setting of this name: a page about drawn cells says so.
    """
    table, cell_rows = SUSPECTS.read(suspects), CELLS.read(cells)
    require_same_keys(cell_rows["image_id"], table["image_id"], str(cells))
    classes = sorted({*table["branch_a_label"], *table["given_label"].dropna()})
    content = {
        "sections": sections(table, CellImages(cell_rows, cells)),
        "names": {code: name_of(code) for code in classes if name_of(code) != code},
        "images": len(table),
        "suspects": int(table["suspect"].sum()),
        "csv": csv.name,
        "note": note_on(data),
    }
    write_page("suspects.html.j2", content, page, "buffycoat.review")
    write_spreadsheet(spreadsheet_rows(table), csv)
    log.info("suspects: %d of %d images: %s", content["suspects"], len(table), page)


if __name__ == "__main__":
    run(write_suspects)
