"""Random streams named by what they are for, so that no result depends on workers or order."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def stream_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every name, and on nothing else."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator of one thing, for instance `stream(seed, "augment", epoch, image_id)`."""
    return np.random.Generator(np.random.Philox(stream_seed(seed, *names)))


def stream_seeds(seed: int, names: list[str]) -> npt.NDArray[np.uint64]:
    """Return the seeds of several names, (n,) uint64: what `uniforms` takes as keys."""
    return np.array([stream_seed(seed, name) for name in names], np.uint64)


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of each value: the finaliser of SplitMix64, doi 10.1145/2660193.2660195."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniforms(keys: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.float64]:
    """Return `count` numbers in [0, 1) per key, (n, count): SplitMix64 from each key, all keys at once.

    A generator object per image would cost more than the augmentation it serves.
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    numbers = mixed(keys[:, None] + steps)
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53
