from __future__ import annotations

import logging

import pytest

from buffycoat.core.progress import Progress, track


def test_the_line_says_how_far_how_fast_and_how_long() -> None:
    progress = Progress("crop_cells", 100)
    progress.done = 25
    assert progress.line(5.0) == "crop_cells: 25/100 images, 5.0/s, 15 s left"
    progress.done = 100
    assert progress.line(20.0) == "crop_cells: 100/100 images, 5.0/s"


def test_the_last_item_is_always_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "buffycoat"):
        assert list(track([1, 2, 3], "count", "things")) == [1, 2, 3]
    assert [record.message.split(",")[0] for record in caplog.records] == ["count: 3/3 things"]
