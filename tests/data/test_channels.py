"""What cameras, exports and cut-outs make of an image, and what is read: small files of each kind."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from buffycoat.data.channels import on_glass, white_level
from buffycoat.data.images import ImageProblem, Pixels, decode_bytes, decode_with_note
from tests.crop.drawing import add_cell, field


def cell(side: int = 120, radius: int = 30) -> tuple[Pixels, np.ndarray]:
    """A drawn field with one cell, a little noise, and the cell's mask."""
    image = field(side)
    mask = add_cell(image, side / 2, side / 2, radius)
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask.astype(bool)


def deep(rgb: Pixels, bits: int) -> np.ndarray:
    """The picture as a camera of so many bits gives it; clear glass is a little below white."""
    return (rgb.astype(np.float64) / 255 * (2**bits - 1)).round().astype(np.uint16)


def tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def png(values: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes())


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("kind", ["tiff", "big tiff", "planar tiff", "deflated tiff", "png", "alpha"])
def test_a_camera_of_fewer_bits_is_no_black_image(bits: int, kind: str) -> None:
    rgb, _ = cell()
    values = deep(rgb, bits)
    if kind == "png":
        data = png(values)
    elif kind == "alpha":
        top = np.full(rgb.shape[:2], 2**bits - 1, np.uint16)
        data = tiff(np.dstack([values, top]), photometric="rgb", extrasamples=["unassalpha"])
    elif kind == "planar tiff":
        data = tiff(np.moveaxis(values, 2, 0).copy(), photometric="rgb", planarconfig="separate")
    else:
        options = {"big tiff": {"bigtiff": True}, "deflated tiff": {"compression": "zlib", "predictor": True}}
        data = tiff(values, photometric="rgb", **options.get(kind, {}))
    pixels, note = decode_with_note(data)
    assert np.abs(pixels.astype(int) - rgb).max() <= 1
    assert f"{bits} bits in a file of more: {2**bits - 1} is white" in note


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32])
def test_grey_of_twelve_bits_in_any_number_is_scaled(dtype: type) -> None:
    grey = cell()[0][..., 1]
    pixels, note = decode_with_note(tiff(deep(grey, 12).astype(dtype)))
    assert np.abs(pixels[..., 0].astype(int) - grey).max() <= 1 and "12 bits" in note


def test_full_sixteen_bits_and_eight_bits_stay_as_they_are() -> None:
    rgb, _ = cell()
    rgb[0, 0] = 255
    full = rgb.astype(np.uint16) * 257
    for data in (tiff(full, photometric="rgb"), png(full), encoded(rgb), encoded(rgb, "TIFF"), encoded(rgb, "BMP")):
        pixels, note = decode_with_note(data)
        assert np.array_equal(pixels, rgb) and note == ""
    alone = np.ascontiguousarray(full[..., 0])
    assert np.array_equal(decode_bytes(tiff(alone))[..., 2], rgb[..., 0])


def test_white_is_told_by_the_file_where_it_can() -> None:
    assert white_level(900, "I;16") == 1023 and white_level(900, "I;16", largest=4000) == 4095
    assert white_level(255, "I;16") == 255 and white_level(16384, "I;16") == 65535
    assert white_level(0.8, "F") == 1 and white_level(1.02, "F") == 1, "a filter overshoots"
    assert white_level(3000, "F") == 4095 and white_level(100_000, "I") == 100_000
    rgb, _ = cell()
    dim = deep((rgb * 0.2).astype(np.uint8), 12)
    told = decode_bytes(tiff(dim, photometric="rgb", extratags=[(281, 3, 1, 4095, True)]))
    assert np.abs(told.astype(int) - (rgb * 0.2).astype(int)).max() <= 1


def test_three_grey_pages_are_colours() -> None:
    rgb, _ = cell()
    planes = np.moveaxis(rgb, 2, 0).copy()
    deep_planes = np.moveaxis(deep(rgb, 12), 2, 0).copy()
    colours = [
        tiff(planes, photometric="minisblack"),
        tiff(deep_planes, photometric="minisblack"),
        tiff(deep_planes[None, None], imagej=True, metadata={"axes": "TZCYX"}),
        tiff(planes, ome=True, metadata={"axes": "CYX"}, photometric="minisblack"),
    ]
    for data in colours:
        pixels, note = decode_with_note(data)
        assert np.abs(pixels.astype(int) - rgb).max() <= 1 and "three grey pages are red, green and blue" in note
    stacks = [
        tiff(planes, imagej=True, metadata={"axes": "ZYX"}),
        tiff(planes, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"),
        tiff(np.concatenate([planes, planes[:1]]), photometric="minisblack"),
    ]
    for data in stacks:
        pixels, note = decode_with_note(data)
        assert np.array_equal(pixels, np.repeat(rgb[..., :1], 3, axis=2)) and note.startswith("the first of ")


def test_an_alpha_channel_that_says_nothing_is_left_aside() -> None:
    rgb, mask = cell()
    for value in (0, 1, 128):
        for kind in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
            rgba = np.dstack([rgb, np.full(mask.shape, value, np.uint8)])
            pixels, note = decode_with_note(encoded(rgba, kind, **options))
            assert np.array_equal(pixels, rgb) and "an empty alpha channel is left aside" in note
    whole = decode_with_note(encoded(np.dstack([rgb, np.full(mask.shape, 255, np.uint8)])))
    assert np.array_equal(whole[0], rgb) and whole[1] == ""
    cut = decode_with_note(encoded(np.dstack([rgb, np.where(mask, 255, 0).astype(np.uint8)])))
    assert np.array_equal(cut[0][mask], rgb[mask]) and (cut[0][~mask] == 255).all()
    assert cut[1] == "transparent pixels are white"


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (12, 10, 14), (114, 114, 114), (0, 255, 0), (255, 0, 255), (20, 60, 160)]
)
@pytest.mark.parametrize("how", ["PNG", "JPEG", "letterbox"])
def test_the_one_colour_around_a_cell_becomes_white(colour: tuple[int, int, int], how: str) -> None:
    rgb, mask = cell()
    if how == "letterbox":
        image = np.full((160, 120, 3), colour, np.uint8)
        image[20:140] = rgb
        pixels, note = decode_with_note(encoded(image))
        assert (pixels[:20] == 255).all() and (pixels[-20:] == 255).all()
        assert np.array_equal(pixels[24:136], rgb[4:116])
    else:
        image = np.where(mask[..., None], rgb, np.array(colour, np.uint8))
        pixels, note = decode_with_note(encoded(image, how, **({"quality": 85} if how == "JPEG" else {})))
        away = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
        inner = cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 1
        assert (pixels[away] == 255).all() and np.abs(pixels[inner].astype(int) - rgb[inner]).mean() < 6
    assert (
        note.startswith("background black" if max(colour) < 24 else "background of one colour")
        and "% made white" in note
    )


def test_ordinary_images_keep_their_background() -> None:
    rgb, mask = cell()
    dark = (rgb * 0.3).astype(np.uint8)
    flat = field(120)
    grey_glass = np.full((80, 80, 3), 200, np.uint8)
    add_cell(grey_glass, 40, 40, 20)
    yellow_glass = np.full((80, 80, 3), (255, 250, 150), np.uint8)
    add_cell(yellow_glass, 40, 40, 20)
    blank, black = np.full((50, 50, 3), 240, np.uint8), np.zeros((50, 50, 3), np.uint8)
    drawn_mask = np.where(mask, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
    corner = rgb.copy()
    corner[:30, :30] = 0
    for image in (rgb, dark, flat, grey_glass, yellow_glass, blank, black, drawn_mask, corner, rgb[:1], rgb[:, :1]):
        kept, note = on_glass(image)
        assert np.array_equal(kept, image) and note == ""


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32, 3 channels"),
        (np.zeros((8, 8, 3), np.uint32), "uint32, 3 channels"),
        (np.zeros((8, 8), np.float64), "float64, 1 channel"),
        (np.zeros((8, 8), np.complex64), "complex64, 1 channel"),
        (np.zeros((8, 8, 5), np.uint16), "uint16, 5 channels"),
    ],
)
def test_a_tiff_that_pillow_does_not_read_is_named(values: np.ndarray, kind: str) -> None:
    photometric = {"photometric": "rgb"} if values.ndim == 3 else {}
    with pytest.raises(ImageProblem) as caught:
        decode_bytes(tiff(values, **photometric))
    assert caught.value.status == "unreadable"
    assert f"a TIFF of a kind that Pillow does not read ({kind})" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 132031\n", "a Git LFS pointer"),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "a git-annex pointer"),
        (b"\n<!DOCTYPE HTML><html>404</html>", "a web page"),
        (b"GIF89a" + bytes(50), "a GIF, not one of"),
        (b"PK\x03\x04" + bytes(50), "a ZIP archive"),
        (b"II*\0" + bytes(3), "not one of JPEG"),
    ],
)
def test_what_stands_in_the_place_of_an_image_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ImageProblem, match=words) as caught:
        decode_bytes(data)
    assert caught.value.status == "not_an_image"
