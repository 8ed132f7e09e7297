from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from buffycoat.data.tables.index import FILE_STATUSES, LABEL_STATUSES
from buffycoat.report.understood import flow_counts, flow_figure, spread


def counted(statuses: list[str], roles: list[str], answered: int = 0, missing: int = 0) -> dict[str, object]:
    """Counts of images with these statuses and roles; the last `missing` readable ones hold no cell."""
    frame = pd.DataFrame({"role": roles, "label_status": statuses, "group": "p"})
    frame["image_id"] = [f"{k}" for k in range(len(frame))]
    of_file = frame["label_status"].isin(FILE_STATUSES)
    frame["status"] = frame["label_status"].where(of_file, "ok")
    readable = int((frame["status"] == "ok").sum())
    found = pd.Series([k < readable - missing for k in range(readable)], dtype=bool)
    tests = frame.loc[(frame["role"] == "test") & (frame["status"] == "ok"), "image_id"]
    return flow_counts(frame, set(tests[:answered]), found, 0, 0)


def texts(figure: dict[str, object]) -> list[str]:
    return [line for box in figure["boxes"] for line in box["lines"]]


def test_every_exclusion_is_in_the_flow_with_its_status_and_number() -> None:
    statuses = ["ok"] * 5 + ["missing"] * 2 + ["truncated", "duplicate", "unlabelled", "unlabelled", "ok", "ok"]
    roles = ["train"] * 11 + ["test"] * 2
    shown = texts(flow_figure(counted(statuses, roles, answered=1, missing=1)))
    for line in ("images listed: 13", "not readable, no prediction: 3", "2  missing", "1  truncated", "readable: 10",
                 "no white cell found: 1", "cells found: 9", "for training: 8", "predicted, not learned from: 3",
                 "2  unlabelled", "1  duplicate", "learned from, and scored out of fold: 5", "of 1 patient",
                 "for testing: 2", "1  without a known label", "scored as test images: 1"):  # fmt: skip
        assert line in shown, (line, shown)


def test_a_flow_without_exclusions_and_test_images_has_no_empty_boxes() -> None:
    figure = flow_figure(counted(["ok"] * 3, ["train"] * 3))
    assert texts(figure) == [
        "images listed: 3", "readable: 3", "each gets a prediction", "cells found: 3", "noisy: 0, of them restored: 0",
        "for training: 3", "learned from, and scored out of fold: 3", "of 1 patient", "for testing: 0",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(LABEL_STATUSES), st.sampled_from(["train", "test"])), max_size=40))
def test_no_image_is_lost_on_the_way(rows: list[tuple[str, str]]) -> None:
    # A test image is never left out of learning: it has no such status.
    rows = [(status if role == "train" or status in FILE_STATUSES else "ok", role) for status, role in rows]
    counts = counted([status for status, _ in rows], [role for _, role in rows])
    assert counts["listed"] == counts["readable"] + sum(counts["unreadable"].values()) == len(rows)
    assert counts["readable"] == counts["found"] + counts["not_found"] == counts["training"] + counts["testing"]
    assert counts["training"] == counts["learned"] + sum(counts["not_learned"].values())
    assert counts["testing"] == counts["scored"] + counts["unanswered"]
    figure = flow_figure(counts)
    for box in figure["boxes"]:
        assert 0 <= box["x"] and box["x"] + box["width"] <= figure["width"] and box["bottom"] <= figure["height"]
    boxes = figure["boxes"]
    for k, one in enumerate(boxes):
        for other in boxes[k + 1 :]:
            apart = one["bottom"] <= other["y"] or other["bottom"] <= one["y"] or one["x"] != other["x"]
            assert apart, "boxes of a column do not cover each other"


def test_cells_of_the_sheet_are_spread_over_the_list() -> None:
    rows = pd.DataFrame({"k": range(100)})
    assert spread(rows, 5)["k"].tolist() == [0, 25, 50, 74, 99]
    assert spread(rows.head(2), 5)["k"].tolist() == [0, 1] and spread(rows.head(0), 5).empty
