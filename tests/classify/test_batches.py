from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from buffycoat.classify.crops import Crops, Sampler, occurrences

LABELS = np.array([k % 3 for k in range(30)])


def sampler(folder: Path, chances: np.ndarray | None = None, batch: int = 8, seed: int = 1) -> Sampler:
    crops = Crops.read(folder / "cells.parquet", "keep", 32, torch.device("cpu"))
    return Sampler(crops, [str(k) for k in range(30)], LABELS, chances, batch, seed)


def test_occurrences_count_what_stood_before() -> None:
    assert occurrences(np.array([3, 1, 3, 3, 1, 2])).tolist() == [0, 0, 1, 2, 1, 0]
    assert occurrences(np.array([], np.int64)).tolist() == []


def test_a_batch_depends_on_its_number_alone(dataset: Path) -> None:
    straight, other = sampler(dataset), sampler(dataset)
    batches = [straight.make(number) for number in range(7)]
    for number in (5, 0, 6):
        again = other.make(number)
        assert torch.equal(again.pixels, batches[number].pixels)
        assert all(torch.equal(again.draws[name], values) for name, values in batches[number].draws.items())
    assert not torch.equal(sampler(dataset, seed=2).make(0).labels, batches[0].labels)


def test_pixels_and_labels_belong_together(dataset: Path) -> None:
    made = sampler(dataset)
    drawn = made.drawn(1)[:8]
    batch = made.make(made.steps)
    assert batch.labels.tolist() == LABELS[drawn].tolist()
    assert torch.equal(batch.pixels, made.crops.pixels(drawn.tolist()))


def test_without_chances_an_epoch_takes_no_image_twice(dataset: Path) -> None:
    made = sampler(dataset)
    assert made.steps == 3 and len(set(made.drawn(0).tolist())) == 24
    assert made.drawn(0).tolist() != made.drawn(1).tolist()


def test_chances_are_heeded_and_repeats_look_different(dataset: Path) -> None:
    chances = np.zeros(30)
    chances[[4, 7]] = 0.75, 0.25
    made = sampler(dataset, chances)
    drawn = np.concatenate([made.drawn(epoch) for epoch in range(40)])
    assert set(drawn.tolist()) == {4, 7} and 0.7 < (drawn == 4).mean() < 0.8
    turns = made.make(0).draws["turn"].tolist()
    assert len(set(turns)) == 8, "the same image, drawn again in an epoch, is augmented anew"


def test_a_batch_larger_than_the_data_is_all_of_it(dataset: Path) -> None:
    made = sampler(dataset, batch=64)
    assert (made.batch, made.steps, len(made.make(0).labels)) == (30, 1, 30)
