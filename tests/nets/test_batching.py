"""Batches of one size: what comes out for a row does not depend on the number of rows."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from buffycoat.core.errors import InputError
from buffycoat.nets.batches import filled, in_pieces


def test_rows_are_filled_up_with_zeros() -> None:
    rows = torch.ones(2, 3, dtype=torch.uint8)
    assert filled(rows, 4).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert filled(rows, 2) is rows and filled(rows, 1) is rows


def test_a_row_comes_out_with_the_same_bits_however_many_others_there_are() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 64), nn.Linear(64, 7))
    rows = torch.randn(37, 3, 8, 8)
    with torch.inference_mode():
        together, _ = in_pieces(network, rows, 16, "x.y")
        alone = torch.cat([in_pieces(network, row[None], 16, "x.y")[0] for row in rows])
    assert torch.equal(together, alone)


def test_where_memory_ends_the_batch_is_halved_and_no_row_lost(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def tight(piece: Tensor) -> Tensor:
        sizes.append(len(piece))
        if len(piece) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return piece * 2

    rows = torch.arange(11.0)[:, None]
    with caplog.at_level(logging.WARNING, "buffycoat"):
        made, size = in_pieces(tight, rows, 16, "embed.embed_cells")
    assert torch.equal(made, rows * 2) and size == 2
    assert sizes == [16, 8, 4] + [2] * 6
    assert "going on with 2 images" in caplog.text


def test_a_single_image_that_does_not_fit_is_said() -> None:
    def full(piece: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match="out of GPU memory with a single image"):
        in_pieces(full, torch.zeros(4, 1), 4, "embed.embed_cells")
