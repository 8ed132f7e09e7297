"""Blocks of one size."""

from __future__ import annotations

import numpy as np

from buffycoat.nets.batches import BLOCK, by_blocks


def test_blocks_keep_rows_and_their_order() -> None:
    rows = np.random.default_rng(0).normal(size=(BLOCK + 5, 30))
    weights = np.random.default_rng(1).normal(size=(30, 4))
    shapes: list[tuple[int, ...]] = []

    def product(block: np.ndarray) -> np.ndarray:
        shapes.append(block.shape)
        return block @ weights

    together = by_blocks(product, rows)
    assert np.allclose(together, rows @ weights) and shapes == [(BLOCK, 30), (BLOCK, 30)]
    assert (by_blocks(product, rows[-1:]) == together[-1:]).all()
