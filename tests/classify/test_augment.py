from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed

from buffycoat.classify.augment import (
    AUGMENTATIONS,
    NUMBERS,
    Augmentation,
    Draws,
    augment,
    augmentation_of,
    draw_numbers,
    move,
    recolour,
    restain,
)
from buffycoat.classify.predict_fold import view_of
from buffycoat.classify.settings import TrainFold
from buffycoat.data.random import stream_seeds


def images(n: int = 4, side: int = 32) -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    image = torch.stack([0.3 + 0.4 * rows, 0.2 + 0.5 * cols, 0.4 + 0.2 * rows * cols])
    return image[None].repeat(n, 1, 1, 1)


def numbers(ids: list[str], seed: int = 1, epoch: int = 0, repeats: list[int] | None = None) -> Draws:
    return draw_numbers(stream_seeds(0, ids), seed, epoch, np.array(repeats or [0] * len(ids)))


def unmirrored(ids: list[str]) -> Draws:
    drawn = numbers(ids)
    return {**drawn, "mirror": torch.full_like(drawn["mirror"], 0.9)}


@pytest.mark.parametrize("rotation", ["none", "any"])
def test_settings_choose_an_augmentation_by_name_and_two_numbers_themselves(rotation: Any) -> None:
    standard = augmentation_of(TrainFold(rotation=rotation, shift=0.1))
    assert standard == replace(AUGMENTATIONS["standard"], rotation=rotation, shift=0.1)
    paper = augmentation_of(TrainFold(augmentation="paper"))
    assert (paper.brightness, paper.contrast) == (0.2, 0.2)
    assert paper.scale == paper.colour == paper.stain == paper.degraded == 0


def test_numbers_depend_on_seed_epoch_image_and_repeat_alone() -> None:
    base = numbers(["a", "b"])
    assert all(torch.equal(values[1:], numbers(["b"])[name]) for name, values in base.items()), "not on the batch"
    for other in (numbers(["a"], seed=2), numbers(["a"], epoch=1), numbers(["a"], repeats=[1]), numbers(["b"])):
        assert all(base[name][0] != other[name][0] for name in NUMBERS)


def test_numbers_are_uniform_and_independent() -> None:
    table = torch.stack(list(numbers([str(k) for k in range(4000)]).values())).double()
    assert table.min() >= 0 and table.max() < 1
    assert (table.mean(dim=1) - 0.5).abs().max() < 0.02 and (table.var(dim=1) - 1 / 12).abs().max() < 0.005
    assert (torch.corrcoef(table) - torch.eye(len(NUMBERS))).abs().max() < 0.07


def test_no_augmentation_is_no_change() -> None:
    assert torch.allclose(augment(images(), unmirrored(list("abcd")), Augmentation()), images(), atol=1e-6)


def test_every_part_changes_something_and_stays_in_range() -> None:
    drawn = unmirrored([str(k) for k in range(16)])
    mirrored = augment(images(16), numbers([str(k) for k in range(16)]), Augmentation())
    assert (mirrored - images(16)).abs().amax(dim=(1, 2, 3)).gt(1e-3).sum() >= 4
    parts: list[dict[str, Any]] = [{"rotation": "any"}, {"scale": 0.2}, {"shift": 0.1}, {"brightness": 0.5},
                                   {"colour": 0.5}, {"contrast": 0.5}, {"stain": 0.5}, {"degraded": 1.0}]  # fmt: skip
    for part in parts:
        changed = augment(images(16), drawn, Augmentation(**part))
        assert (changed - images(16)).abs().amax(dim=(1, 2, 3)).gt(1e-3).sum() >= 4, part
        assert changed.min() >= 0 and changed.max() <= 1 + 1e-6, part


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    settings = replace(augmentation_of(TrainFold()), degraded=0.5)
    drawn = numbers([str(k) for k in range(8)])
    whole = augment(images(8), drawn, settings)
    part = augment(images(3), {name: values[5:] for name, values in drawn.items()}, settings)
    # Equal but for the reach of the blur, which is the batch's widest.
    assert torch.allclose(whole[5:], part, atol=2e-3)


def test_quarter_turns_and_mirrors_are_exactly_the_views() -> None:
    views = [view_of(images(1), view)[0] for view in range(8)]
    moved = move(images(64), numbers([str(k) for k in range(64)]), Augmentation(rotation="quarter"))
    seen = set()
    for image in moved:
        matches = [k for k, view in enumerate(views) if torch.equal(image, view)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == set(range(8))


def test_a_free_rotation_by_quarter_turns_is_the_exact_one() -> None:
    drawn = numbers([str(k) for k in range(16)])
    drawn["turn"] = torch.floor(drawn["turn"] * 4) / 4
    free = move(images(16), drawn, Augmentation(rotation="any"))
    views = [view_of(images(1), view)[0] for view in range(8)]
    assert all(any(torch.allclose(image, view, atol=1e-4) for view in views) for image in free)


def test_colours_are_their_definition() -> None:
    drawn = numbers(["a", "b"])
    settings = Augmentation(brightness=0.2, colour=0.1, contrast=0.3)
    changed = recolour(images(2), drawn, settings)
    for k in range(2):
        number = {name: 2 * values[k].item() - 1 for name, values in drawn.items()}
        image = images(1)[0].double()
        expected = (image - image.mean()) * (1 + 0.3 * number["contrast"]) + image.mean()
        expected = expected * (1 + 0.2 * number["brightness"])
        for channel, name in enumerate(("red", "green", "blue")):
            expected[channel] *= 1 + 0.1 * number[name]
        assert torch.allclose(changed[k].double(), expected.clamp(0, 1), atol=1e-5)


def test_stain_jitter_is_scikit_images_separation_with_scaled_stains() -> None:
    drawn = numbers(["a"])
    pixels = images(1)[0].permute(1, 2, 0).double().numpy()
    stains = rgb2hed(pixels)
    for channel, name in enumerate(("haematoxylin", "eosin", "residual")):
        stains[..., channel] *= 1 + 0.2 * (2 * drawn[name].item() - 1)
    # scikit-image clips negative amounts of stain; only pixels without any are compared.
    plain = (rgb2hed(pixels) > 0).all(axis=2)
    changed = restain(images(1), drawn, Augmentation(stain=0.2))[0].permute(1, 2, 0).numpy()
    assert plain.sum() > 50
    assert np.abs(changed - hed2rgb(stains))[plain].max() < 0.01


def test_stain_jitter_leaves_white_white() -> None:
    white = torch.ones(2, 3, 8, 8)
    assert torch.allclose(restain(white, numbers(["a", "b"]), Augmentation(stain=0.5)), white, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_what_comes_from_outside_mirrors_the_edge(shift: float) -> None:
    moved = move(images(8), numbers([str(k) for k in range(8)]), Augmentation(rotation="any", scale=0.3, shift=shift))
    assert moved.min() >= images().min() - 1e-4 and moved.max() <= images().max() + 1e-4
