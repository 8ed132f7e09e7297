from __future__ import annotations

import logging
import time

import pytest

from buffycoat.core.progress import Progress, share_done, start_logging, track


def test_the_line_says_how_far_how_fast_and_how_long() -> None:
    progress = Progress("crop_cells", 100)
    progress.done = progress.first = 5
    progress.clock = 10.0
    assert progress.line(10.0) == "crop_cells: 5/100 images"
    progress.done = 25
    assert progress.line(14.0) == "crop_cells: 25/100 images, 5.0/s, 15 s left"
    progress.done = 100
    assert progress.line(29.0) == "crop_cells: 100/100 images, 5.0/s"


def test_the_time_until_the_first_item_is_no_part_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 20.0, 20.1, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = Progress("crop_cells", 46)
    assert progress.line(progress.count()) == "crop_cells: 1/46 images", "20 s of loading say nothing of an image"
    assert progress.line(progress.count(15)) == "crop_cells: 16/46 images", "nor does the rest of its batch"
    assert progress.line(progress.count(10)) == "crop_cells: 26/46 images, 10.0/s, 2 s left"


def test_what_is_done_at_once_has_the_rate_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 4.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = Progress("measure_cells", 40, "cells")
    assert progress.line(progress.count(40)) == "measure_cells: 40/40 cells, 10.0/s"


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("12:00:00 crop_cells: 25/100 images, 5.0/s, 15 s left", 0.25),
        ("draw_smears: 3/4 batches of 32", 0.75),
        ("train_fold, epoch 3/4: 64/128 images, 310.0/s, 1 s left", 0.625),
        ("fold 0, epoch 3/4: train loss 0.1, held-out macro-F1 0.8, 310.0 images/s", 0.75),
        ("step 80/800, 12.3 steps/s: held out 24.1 dB", 0.1),
        ("continuing after step 40 of 80", None),
        ("device: CPU, 2 threads", None),
        ("images in 12/2026", None),
    ],
)
def test_a_line_of_a_log_tells_the_share_that_is_done(line: str, share: float | None) -> None:
    assert share_done(line) == share


def test_the_last_item_is_always_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "buffycoat"):
        assert list(track([1, 2, 3], "count", "things")) == [1, 2, 3]
    assert [record.message.split(",")[0] for record in caplog.records] == ["count: 3/3 things"]


def test_a_warning_begins_with_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        start_logging()
        logging.getLogger("buffycoat").info("%d images: 100 %% ok", 3)
        logging.getLogger("buffycoat").warning("%d of them are %s", 2, "100 % grey")
        lines = capsys.readouterr().err.splitlines()
    finally:
        logging.basicConfig(handlers=before, level=level, force=True)
    assert [line[9:] for line in lines] == ["3 images: 100 % ok", "warning: 2 of them are 100 % grey"]
