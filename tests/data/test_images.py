from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.data.images import (
    BACKGROUND,
    CYTOPLASM,
    CellImages,
    ImageProblem,
    Pixels,
    ShardWriter,
    decode_bytes,
    decode_image,
    on_white,
    pixels_crc32,
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def gradient(height: int = 24, width: int = 32) -> Pixels:
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows * 8, cols * 7, (rows + cols) * 3], axis=2).astype(np.uint8)


def test_lossless_formats_give_back_the_pixels() -> None:
    pixels = gradient()
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(decode_bytes(encoded(Image.fromarray(pixels), kind)), pixels)
    assert np.array_equal(decode_bytes(encoded(Image.fromarray(pixels), "WEBP", lossless=True)), pixels)


def test_a_jpeg_is_close_and_extra_bytes_at_its_end_do_not_matter() -> None:
    data = encoded(Image.fromarray(gradient()), "JPEG", quality=95)
    assert np.abs(decode_bytes(data).astype(int) - gradient()).mean() < 4
    assert np.array_equal(decode_bytes(data + b"trailing rubbish"), decode_bytes(data))


def test_a_truncated_jpeg_is_not_filled_with_grey() -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    for share in (0.5, 0.8, 0.97):
        with pytest.raises(ImageProblem) as caught:
            decode_bytes(data[: int(len(data) * share)])
        assert caught.value.status == "truncated"


def test_a_truncated_png_is_a_problem_too() -> None:
    data = encoded(Image.fromarray(gradient()), "PNG")
    with pytest.raises(ImageProblem) as caught:
        decode_bytes(data[:-30])
    assert caught.value.status in ("truncated", "unreadable")


@pytest.mark.parametrize("data", [b"", b"image,label\n1.jpg,SNE\n", b"\x00" * 100, b"GIF89a" + b"\x00" * 50])
def test_what_is_not_an_image_is_named_so(data: bytes) -> None:
    with pytest.raises(ImageProblem) as caught:
        decode_bytes(data)
    assert caught.value.status == "not_an_image"


def huge_png(side: int) -> bytes:
    """A PNG that claims to be side x side and holds nothing: decoding it would take gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_a_huge_header_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(ImageProblem) as caught:
        decode_bytes(huge_png(side))
    assert caught.value.status == "too_large"
    assert "make the image smaller" in str(caught.value)


def test_every_mode_becomes_rgb() -> None:
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    assert np.array_equal(decode_bytes(encoded(Image.fromarray(grey), "PNG"))[..., 1], grey)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(decode_bytes(encoded(deep, "PNG"))[..., 0], grey)
    palette = Image.fromarray(gradient(8, 8)).convert("P")
    assert decode_bytes(encoded(palette, "PNG")).shape == (8, 8, 3)
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode_bytes(encoded(cmyk, "JPEG", quality=100))[4, 4]
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


def test_transparent_pixels_become_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2, :, 3] = 255
    pixels = decode_bytes(encoded(Image.fromarray(rgba), "PNG"))
    assert (pixels[:2] == 0).all() and (pixels[2:] == 255).all()


def test_an_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(gradient(24, 32)), "JPEG", exif=exif)
    assert decode_bytes(data).shape == (24, 32, 3)


def test_decode_image_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "note.jpg").write_text("not an image")
    with pytest.raises(ImageProblem, match=r"note\.jpg: not one of JPEG"):
        decode_image(tmp_path / "note.jpg")
    with pytest.raises(ImageProblem, match="no such file"):
        decode_image(tmp_path / "absent.jpg")


@pytest.fixture()
def stored(tmp_path: Path) -> tuple[pd.DataFrame, Path, Pixels, Pixels]:
    rng = np.random.default_rng(1)
    crops = rng.integers(0, 256, (10, 6, 6, 3), np.uint8)
    masks = rng.integers(0, 3, (10, 6, 6), np.uint8)
    rows = []
    with ShardWriter(tmp_path / "shards", 6, rows_per_shard=4, rows_per_batch=3) as writer:
        for k in range(10):
            shard, row, crc = writer.add(f"cell {k}", crops[k], masks[k])
            rows.append({"image_id": f"cell {k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    return pd.DataFrame(rows), tmp_path / "table.parquet", crops, masks


def test_shards_give_back_every_cell_in_any_order(stored: tuple[pd.DataFrame, Path, Pixels, Pixels]) -> None:
    frame, table, crops, masks = stored
    assert sorted(frame["shard"].unique()) == ["shards/00000.arrow", "shards/00001.arrow", "shards/00002.arrow"]
    shuffled = frame.sample(frac=1, random_state=0)
    cells = CellImages(shuffled, table)
    order = shuffled.index.to_numpy()
    assert np.array_equal(cells.crops(range(10)), crops[order])
    assert np.array_equal(cells.masks(range(10)), masks[order])
    assert [image_id for image_id, _, _ in cells] == list(shuffled["image_id"])


def test_a_flipped_byte_in_a_shard_is_found(stored: tuple[pd.DataFrame, Path, Pixels, Pixels]) -> None:
    frame, table, crops, _ = stored
    path = table.parent / "shards" / "00001.arrow"
    data = bytearray(path.read_bytes())
    place = bytes(data).find(crops[5].tobytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    cells = CellImages(frame, table)
    cells.crop(0)
    with pytest.raises(InputError, match=r"00001\.arrow.*cell 5"):
        cells.mask(5)


def test_a_missing_or_cut_shard_is_named(stored: tuple[pd.DataFrame, Path, Pixels, Pixels]) -> None:
    frame, table, _, _ = stored
    path = table.parent / "shards" / "00002.arrow"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"00002\.arrow: missing or damaged"):
        CellImages(frame, table)


def test_a_shard_writer_refuses_another_size(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 6) as writer, pytest.raises(ValueError, match="x: crop"):
        writer.add("x", np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), np.uint8))


def test_the_checksum_covers_crop_and_mask() -> None:
    crop, mask = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)
    assert pixels_crc32(crop, mask) == zlib.crc32(crop.tobytes() + mask.tobytes())
    assert pixels_crc32(crop, mask) != pixels_crc32(crop, mask + 1)


def test_on_white_keeps_the_cell_and_only_the_cell() -> None:
    crop = gradient(4, 4)
    mask = np.full((4, 4), BACKGROUND, np.uint8)
    mask[1, 2] = CYTOPLASM
    white = on_white(crop, mask)
    assert np.array_equal(white[1, 2], crop[1, 2])
    assert (white[mask == BACKGROUND] == 255).all()
