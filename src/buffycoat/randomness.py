"""Random streams named by what they are for, so that no result depends on workers or order."""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every name, and on nothing else."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator of one thing, for instance `stream(seed, "augment", epoch, image_id)`."""
    return np.random.Generator(np.random.Philox(stream_seed(seed, *names)))
