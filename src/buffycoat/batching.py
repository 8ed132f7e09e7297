"""Forward passes of one size, so that what comes out for an image does not depend on how many others there are.

Libraries choose how they multiply matrices by their shapes, and rounding follows that choice. In a batch of a fixed
size no row's result depends on what the other rows hold; so the last batch is filled up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from buffycoat.errors import InputError

log = logging.getLogger("buffycoat")


def filled(rows: Tensor, size: int) -> Tensor:
    """Return rows (n, ...) with zeros added up to `size` of them; as they are from that size on."""
    if len(rows) >= size:
        return rows
    return torch.cat([rows, rows.new_zeros((size - len(rows), *rows.shape[1:]))])


def in_pieces(forward: Callable[[Tensor], Tensor], rows: Tensor, size: int, key: str) -> tuple[Tensor, int]:
    """Return what `forward` makes of all rows (n, ...), `size` at a time, the last ones filled up, and the size.

    Where memory ends the size is halved and the rows are begun anew, so that none is lost; raises InputError, naming
    the rule `key`, where a single one does not fit.
    """
    while True:
        try:
            return torch.cat([forward(filled(piece, size))[: len(piece)] for piece in rows.split(size)]), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise InputError(
                    f"{key}: out of GPU memory with a single image; free the GPU of other programs, or set a smaller"
                    " size_px or network"
                ) from None
        # Outside the handler, whose traceback holds on to the tensors that did not fit.
        size //= 2
        torch.cuda.empty_cache()
        log.warning("%s: out of memory, going on with %d images per forward pass", key, size)
