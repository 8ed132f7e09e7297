"""The report's first section: what was understood of the data, as a flow of images and a sheet of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from buffycoat.core.scale import scale_line, scale_of, scale_sentences
from buffycoat.data.cell_types import name_of
from buffycoat.data.pages import data_address, outlined
from buffycoat.report.sections import Cells

SHEET, SHEET_PX = 8, 84
"""Cells shown of each class, at most, and the side of their pictures, pixels."""
WIDTH, LINE, PAD, GAP = 760, 18, 9, 24
"""The flow's width, the height of a line, the space around the lines of a box, and between boxes; pixels."""
WIDE = 330
"""Width of a box, pixels."""
LEFT, RIGHT = 10, WIDTH - WIDE - 10
"""Left side of the boxes in the two columns."""


def flow_counts(
    images: pd.DataFrame, answered: set[str], found: pd.Series, noisy: int, restored: int
) -> dict[str, Any]:
    """Return how many images went which way, and by which status each of the others was left out.

    Parameters: images of `data.labels.labelled`; answered, the image_ids of test images whose label is known; found,
    whether each readable image holds a white cell; how many crops are noisy, and restored.
    """
    readable = images[images["status"] == "ok"]
    training, testing = readable[readable["role"] == "train"], readable[readable["role"] == "test"]
    learned = training[training["label_status"] == "ok"]
    scored = int(testing["image_id"].isin(list(answered)).sum())
    groups = learned["group"]
    return {
        "listed": len(images),
        "unreadable": _by_status(images.loc[images["status"] != "ok", "status"]),
        "readable": len(readable),
        "found": int(found.sum()),
        "not_found": int((~found).sum()),
        "noisy": noisy,
        "restored": restored,
        "training": len(training),
        "not_learned": _by_status(training.loc[training["label_status"] != "ok", "label_status"]),
        "learned": len(learned),
        "patients": int(groups.nunique()) if len(learned) and groups.notna().all() else None,
        "testing": len(testing),
        "unanswered": len(testing) - scored,
        "scored": scored,
    }


def _by_status(statuses: pd.Series) -> dict[str, int]:
    return {str(status): int(count) for status, count in statuses.value_counts().items()}


def _points(places: list[tuple[float, float]]) -> str:
    """Return places as the points of an SVG line."""
    return " ".join(f"{x:g},{y:g}" for x, y in places)


class _Drawing:
    """Boxes and arrows of a flow, placed from top to bottom."""

    def __init__(self) -> None:
        self.boxes: list[dict[str, Any]] = []
        self.arrows: list[dict[str, str]] = []

    def box(self, x: float, y: float, lines: list[str], out: bool = False) -> dict[str, Any]:
        """Place a box of lines; `out` marks images that are left out."""
        height = len(lines) * LINE + 2 * PAD
        placed = {"x": x, "y": y, "width": WIDE, "height": height, "bottom": y + height, "lines": lines, "out": out}
        self.boxes.append(placed)
        return placed

    def arrow(self, above: dict[str, Any], below: dict[str, Any]) -> None:
        """Draw an arrow from the foot of one box to the top of another, with a bend where that is in another column."""
        x, end, y = above["x"] + WIDE / 2, below["x"] + WIDE / 2, below["y"]
        bend = y - GAP
        line = [(x, above["bottom"]), *([(x, bend), (end, bend)] if end != x else []), (end, y)]
        self.arrows.append({"line": _points(line), "tip": _points([(end, y), (end - 4, y - 7), (end + 4, y - 7)])})

    def aside(self, box: dict[str, Any], lines: list[str]) -> float:
        """Place the images that leave the flow behind a box beside it; return where the flow goes on."""
        if not lines:
            return float(box["bottom"] + GAP)
        left = self.box(RIGHT, box["y"], lines, out=True)
        middle = box["y"] + min(box["height"], left["height"]) / 2
        x, end = box["x"] + WIDE, left["x"]
        tip = [(end, middle), (end - 7, middle - 4), (end - 7, middle + 4)]
        self.arrows.append({"line": _points([(x, middle), (end, middle)]), "tip": _points(tip)})
        return float(max(box["bottom"], left["bottom"]) + GAP)

    def column(self, x: float, y: float, boxes: list[tuple[list[str], bool]], above: dict[str, Any]) -> float:
        """Place boxes below each other, the first one below `above`; return the foot of the last."""
        for lines, out in boxes:
            box = self.box(x, y, lines, out)
            self.arrow(above, box)
            above, y = box, box["bottom"] + GAP
        return float(above["bottom"])


def _left_out(title: str, counts: dict[str, int]) -> list[tuple[list[str], bool]]:
    """Return a box of what is left out, with a line per status; no box where it is nothing."""
    total = sum(counts.values())
    return [([f"{title}: {total}", *(f"{count}  {status}" for status, count in counts.items())], True)] if total else []


def flow_figure(counts: dict[str, Any]) -> dict[str, Any]:
    """Return the flow of images as boxes and arrows to draw, in pixels."""
    drawn = _Drawing()
    listed = drawn.box(LEFT, 10, [f"images listed: {counts['listed']}"])
    unreadable = _left_out("not readable, no prediction", counts["unreadable"])
    y = drawn.aside(listed, unreadable[0][0] if unreadable else [])
    readable = drawn.box(LEFT, y, [f"readable: {counts['readable']}", "each gets a prediction"])
    drawn.arrow(listed, readable)
    without = [f"no white cell found: {counts['not_found']}", "the image's centre, or the box's ellipse"]
    y = drawn.aside(readable, without if counts["not_found"] else [])
    noisy = f"noisy: {counts['noisy']}, of them restored: {counts['restored']}"
    cells = drawn.box(LEFT, y, [f"cells found: {counts['found']}", noisy])
    drawn.arrow(readable, cells)
    y = cells["bottom"] + 2 * GAP
    learned = f"learned from, and scored out of fold: {counts['learned']}"
    patients = (
        [f"of {counts['patients']} patient{'s' * (counts['patients'] > 1)}"]
        if counts["patients"]
        else ["patients not known"]
    )
    training = [
        ([f"for training: {counts['training']}"], False),
        *_left_out("predicted, not learned from", counts["not_learned"]),
        ([learned, *patients], False),
    ]
    unanswered = {"without a known label": counts["unanswered"]} if counts["unanswered"] else {}
    testing = [
        ([f"for testing: {counts['testing']}"], False),
        *_left_out("predicted, not scored", unanswered),
        ([f"scored as test images: {counts['scored']}"], False),
    ]
    bottom = drawn.column(LEFT, y, training, cells)
    bottom = max(bottom, drawn.column(RIGHT, y, testing if counts["testing"] else testing[:1], cells))
    size = {"width": WIDTH, "height": bottom + 10, "line": LINE, "pad": PAD}
    return {**size, "boxes": drawn.boxes, "arrows": drawn.arrows}


def spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows, evenly spread over the list."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    return rows.iloc[places]


def sheet(images: pd.DataFrame, codes: list[str], pictures: Cells) -> list[dict[str, Any]]:
    """Return some learned cells of each class, with outlines; `images` are those of `data.labels.labelled`."""
    learned = images[(images["role"] == "train") & (images["label_status"] == "ok")]
    found = []
    for code in codes:
        rows = learned[learned["label"] == code]
        shown = [str(image_id) for image_id in spread(rows, SHEET)["image_id"]]
        name = name_of(code)
        found.append(
            {
                "code": code,
                "name": name if name != code else "",
                "images": len(rows),
                "cells": [{"image_id": image_id, "picture": _outlined(image_id, pictures)} for image_id in shown],
            }
        )
    return found


def _outlined(image_id: str, pictures: Cells) -> str:
    place = pictures.place[image_id]
    return data_address(outlined(pictures.crops.crop(place), pictures.crops.mask(place), SHEET_PX))


def copies_shown(copies: dict[str, Any], pictures: Cells) -> list[dict[str, Any]]:
    """Return the pairs of near copies with both pictures."""
    return [
        {**pair, "pictures": [_outlined(pair[name], pictures) for name in ("first", "second")]}
        for pair in copies["pairs"]
        if pair["first"] in pictures.place and pair["second"] in pictures.place
    ]


def yields(counts: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """Return one line of yield per stage."""
    return [
        f"index: {counts['readable']} of {counts['listed']} images are readable",
        f"crop: {scale_line(figures)}",
        f"restore: {counts['noisy']} of {counts['readable']} crops are noisy, {counts['restored']} of them restored",
    ]


def content(
    images: pd.DataFrame, predictions: pd.DataFrame, answered: set[str], codes: list[str], crops: pd.DataFrame,
    pictures: Cells, summary: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return what the section shows; `summary` is that of the index, the other parameters are those above."""
    noisy, restored = (int(predictions[name].fillna(False).sum()) for name in ("noisy", "restored"))
    counts = flow_counts(images, answered, crops["found"].astype(bool), noisy, restored)
    figures = scale_of(crops, images)
    return {
        "flow": flow_figure(counts),
        "yields": yields(counts, figures),
        "doubts": [*summary["doubts"], *scale_sentences(figures)],
        "sheet": sheet(images, codes, pictures),
        "copies": copies_shown(summary["near_copies"], pictures),
        "copied_images": summary["near_copies"]["images"],
        "shared": summary["patients_in_test"],
        "copies_in_test": summary["near_copies"]["between"].get("training and test", 0),
    }
