from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from buffycoat.data.images import Pixels, decode_image, grey_of
from buffycoat.index.alike import first_alike, look_of, near_copies, portrait_of
from buffycoat.simulate.draw_smears import draw_smears
from buffycoat.simulate.settings import DrawSmears
from tests.crop.drawing import add_cell, field


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Pixels]:
    """The drawn smears of a small demo: distinct cells of thirteen classes, noisy ones among them."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_smears(smears=folder / "smears", seed=3, threads=1, settings=DrawSmears(images=90, patients=16))
    return [decode_image(path) for path in sorted((folder / "smears").rglob("phase*/**/*.jpg"))]


def looks(images: list[Pixels]) -> np.ndarray:
    return np.array([look_of(grey_of(np.ascontiguousarray(image))) for image in images])


def saved_again(image: Pixels, kind: str, **options: object) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)  # type: ignore[arg-type]
    return np.asarray(Image.open(stream).convert("RGB"))


def resized(image: Pixels, scale: float) -> Pixels:
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG": lambda image: saved_again(image, "JPEG", quality=40),
    "WEBP": lambda image: saved_again(image, "WEBP", quality=50),
    "half": lambda image: resized(image, 0.5),
    "larger": lambda image: resized(image, 1.7),
    "shifted": lambda image: np.roll(image, (2, 2), (0, 1)),
    "brighter": lambda image: np.clip(image * 1.05 + 2, 0, 255).astype(np.uint8),
    "blurred": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8),
    "grey": lambda image: np.repeat(grey_of(image)[..., None], 3, axis=2),
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image),
    "turned and mirrored": lambda image: np.rot90(image[::-1]),
}


def test_drawn_cells_are_no_near_copies(drawn: list[Pixels]) -> None:
    assert len(drawn) >= 90 and near_copies(looks(drawn)) == []


@pytest.mark.parametrize("kind", list(COPIES))
def test_a_copy_is_found_whatever_was_done_to_it(drawn: list[Pixels], kind: str) -> None:
    originals = drawn[::4]
    count = len(originals)
    pairs = near_copies(looks([*originals, *map(COPIES[kind], originals)]))
    assert pairs == [(k, k + count) for k in range(count)]


def test_cells_on_white_are_told_apart_by_what_is_in_them() -> None:
    images = []
    for k in range(12):
        image = field(200, seed=k)
        mask = add_cell(image, 100, 100, 40, 0.5 + 0.02 * k)
        image = np.clip(image + np.random.default_rng(k).normal(0, 45, (20, 20, 3)).repeat(10, 0).repeat(10, 1), 0, 255)
        images.append(np.where(mask[..., None] > 0, image, 255).astype(np.uint8))
    assert near_copies(looks(images)) == []
    moved = [np.roll(image, (30, -20), (0, 1)) for image in images]
    pairs = near_copies(looks([*images, *moved]))
    assert pairs == [(k, k + 12) for k in range(12)], "where it is cut out"


def test_digests_are_of_pixels_and_grey_is_seen(drawn: list[Pixels]) -> None:
    image = drawn[0]
    portrait = portrait_of(image)
    assert portrait.digest == portrait_of(saved_again(image, "PNG")).digest != portrait_of(drawn[1]).digest
    assert portrait_of(image.reshape(1, -1, 3)).digest != portrait.digest, "the size counts"
    assert not portrait.grey and portrait_of(COPIES["grey"](image)).grey


def test_copies_are_told_by_the_first_of_the_list() -> None:
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=256).astype(np.float32) for _ in range(2))
    one, two = one / np.linalg.norm(one), two / np.linalg.norm(two)
    near = one + 0.3 * two
    near /= np.linalg.norm(near)
    blank = np.zeros(256, np.float32)
    #        0    1     2    3 (same pixels as 2)  4: none  5, 6: of one colour
    found = first_alike(["a", "b", "c", "c", None, "d", "e"], [two, one, near, near, None, blank, blank])
    assert found == [None, None, 1, 1, None, None, None]
    assert first_alike(["a", "a"], [one, one]) == [None, None], "the same pixels are told by the digest"
    assert first_alike([], []) == []


def test_fifty_five_thousand_images_take_no_memory_of_their_square() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6000, 256)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    values[5999] = values[17]
    started = time.process_time()
    assert near_copies(values) == [(17, 5999)]
    # A hundredth of 55,012 squared: the whole takes a hundred times as long.
    assert time.process_time() - started < 5


def test_a_film_of_one_cell_is_no_square_of_pairs(drawn: list[Pixels]) -> None:
    rng = np.random.default_rng(2)
    still = looks([np.ascontiguousarray(drawn[0])])[0]
    film = still + rng.normal(0, 0.01, (3000, 256)).astype(np.float32)
    film /= np.linalg.norm(film, axis=1, keepdims=True)
    started = time.process_time()
    assert len(near_copies(film)) == 2999
    assert time.process_time() - started < 10


def test_real_cells_hold_two_that_were_taken_twice(real_data: Path) -> None:
    folder = real_data / "pbc" / "images"
    names = ["01821", "02293", "02430", "03884", *(f"{k:05d}" for k in range(1, 150))]
    images = [decode_image(folder / f"{name}.jpg") for name in names]
    assert near_copies(looks(images)) == [(0, 1), (2, 3)]
