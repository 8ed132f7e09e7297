"""The Cellpose method with a stub in the network's place: batching, sizes, choice of the cell, and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from buffycoat.crop.cellpose_method import check_weights, primary_of, segment_batch, segment_by_cellpose
from buffycoat.crop.settings import CropCells
from buffycoat.errors import InputError
from buffycoat.images import BACKGROUND, NUCLEUS
from tests.crop.drawing import add_cell, field, iou


class Stub:
    """Answers as Cellpose does: labels of everything that is not glass; remembers how it was called."""

    def __init__(self, fail_above: int = 10**9, answer: str = "masks") -> None:
        self.calls: list[tuple[tuple[int, ...], dict[str, object]]] = []
        self.fail_above, self.answer = fail_above, answer

    def eval(self, images: np.ndarray, **options: object) -> tuple[object, None, None]:
        import cv2

        self.calls.append((images.shape, options))
        if int(str(options["batch_size"])) > self.fail_above:
            raise torch.cuda.OutOfMemoryError("stub")
        if self.answer == "none":
            return None, None, None
        found = []
        for image in images:
            cells = (image.min(axis=2) < 215).astype(np.uint8)
            found.append(cv2.connectedComponents(cells)[1].astype(np.uint16))
        return found, None, None


SETTINGS = CropCells(method="cellpose", cellpose_px=128)


def test_the_white_cell_is_chosen_among_red_ones() -> None:
    image = field(240, red_cells=9)
    truth = add_cell(image, 120, 120, 45)
    ((mask, cells),) = segment_by_cellpose(Stub(), [image], SETTINGS)
    assert cells == 1
    assert iou(mask != BACKGROUND, truth > 0) > 0.9
    assert 0.2 < (mask == NUCLEUS).sum() / (mask != BACKGROUND).sum() < 0.6


def test_images_of_one_size_go_as_one_array_and_come_back_in_order() -> None:
    images, truths = [], []
    for k, side in enumerate([200, 240, 200, 240, 200]):
        image = field(side, red_cells=0)
        truths.append(add_cell(image, side / 2, side / 2 + 3 * k, 35 + k))
        images.append(image)
    stub = Stub()
    found = segment_by_cellpose(stub, images, SETTINGS)
    assert sorted(shape for shape, _ in stub.calls) == [(2, 128, 128, 3), (3, 128, 128, 3)]
    for (mask, _), truth in zip(found, truths, strict=True):
        assert mask.shape == truth.shape and iou(mask != BACKGROUND, truth > 0) > 0.85


def test_large_masks_are_not_dropped_by_the_size_filter() -> None:
    stub = Stub()
    segment_batch(stub, np.zeros((1, 32, 32, 3), np.uint8), 8)
    assert stub.calls[0][1]["max_size_fraction"] == 1.0


def test_out_of_memory_halves_the_batch() -> None:
    stub = Stub(fail_above=16)
    segment_batch(stub, np.full((2, 32, 32, 3), 240, np.uint8), 64)
    assert [options["batch_size"] for _, options in stub.calls] == [64, 32, 16]
    with pytest.raises(torch.cuda.OutOfMemoryError):
        segment_batch(Stub(fail_above=0), np.zeros((1, 8, 8, 3), np.uint8), 2)


def test_no_masks_at_all_is_an_error_not_an_empty_image() -> None:
    with pytest.raises(RuntimeError, match="no masks"):
        segment_batch(Stub(answer="none"), np.zeros((1, 8, 8, 3), np.uint8), 2)


def test_a_field_without_a_white_cell_has_none() -> None:
    image = field(240, red_cells=9)
    labels = (image.min(axis=2) < 215).astype(np.int32)
    mask, cells = primary_of(image, labels, 0.004, 0.35)
    assert cells == 0 and (mask == BACKGROUND).all()


def test_missing_or_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"crop_cells\.weights: not set.*cpsam"):
        check_weights(CropCells(method="cellpose"))
    with pytest.raises(InputError, match="no such file.*cpsam"):
        check_weights(CropCells(method="cellpose", weights=str(tmp_path / "cpsam")))
    (tmp_path / "cpsam").write_bytes(b"other")
    with pytest.raises(InputError, match="SHA-256"):
        check_weights(CropCells(method="cellpose", weights=str(tmp_path / "cpsam"), weights_sha256="0" * 64))
    assert check_weights(CropCells(method="cellpose", weights=str(tmp_path / "cpsam"))) == tmp_path / "cpsam"
