"""Images: files decoded, cells kept in shards (Arrow IPC, memory-mapped), and grey levels and noise of a crop."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from buffycoat.core.errors import InputError
from buffycoat.data.channels import NotNumbersError, Pixels, as_rgb

BACKGROUND, CYTOPLASM, NUCLEUS = 0, 1, 2
"""Values of a mask. Where a method cannot tell the nucleus, the whole cell is CYTOPLASM."""
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Formats that are decoded; anything else is refused before a decoder sees it."""
MAX_PIXELS = 50_000_000
"""An image of more pixels is not decoded (status too_large): it would fill memory, and no single cell needs it."""


OPENINGS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer, not the image; fetch it by `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the image; fetch it by `git annex get`",
    b"<!doctype html": "a web page, perhaps of a download that failed; fetch the image again",
    b"<html": "a web page, perhaps of a download that failed; fetch the image again",
    b"GIF8": f"a GIF, not one of {', '.join(FORMATS)}",
    b"%PDF": f"a PDF, not one of {', '.join(FORMATS)}",
    b"PK\x03\x04": "a ZIP archive; unpack it",
}
"""How files begin that stand in the place of an image, and what to say of them."""
TIFF_OPENINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class ImageProblem(Exception):
    """An image file cannot be used; `status` is one of tables.index.FILE_STATUSES, the text says why."""

    def __init__(self, status: str, reason: str) -> None:
        """Keep the status and the sentence for a person."""
        super().__init__(reason)
        self.status = status


def decode_image(path: Path, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return a file's pixels, (height, width, 3) uint8 RGB; raises ImageProblem with the file's name."""
    try:
        return decode_bytes(path.read_bytes(), max_pixels)
    except FileNotFoundError:
        raise ImageProblem("missing", f"{path}: no such file") from None
    except OSError as problem:
        raise ImageProblem("unreadable", f"{path}: cannot be read ({problem.strerror})") from None
    except ImageProblem as problem:
        raise ImageProblem(problem.status, f"{path}: {problem}") from None


def decode_bytes(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return an image file's pixels, (height, width, 3) uint8 RGB; raises ImageProblem.

    The header is read first, so that an image of more than `max_pixels` is never decoded. Grey, palette, CMYK and
    deeper images become 8-bit RGB (`data.channels` has the rules); transparent pixels and the one colour around a cell
    that was cut out become white; of several pages only the first is read, but three grey ones are colours; an EXIF
    orientation is ignored, because smear images have no up.
    """
    return decode_with_note(data, max_pixels)[0]


def decode_with_note(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, str]:
    """Return what `decode_bytes` returns, and a note on what was not plain, which is empty for most images."""
    _check_header(data, max_pixels)
    return _decode(data)


def _check_header(data: bytes, max_pixels: int) -> None:
    import warnings

    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageProblem("not_an_image", "the file is empty")
    try:
        with warnings.catch_warnings():
            # Our own limit applies; Pillow's warning would only repeat it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as header:
                width, height = header.size
    except Image.DecompressionBombError:
        raise ImageProblem("too_large", f"more than {max_pixels} pixels; make the image smaller") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (OSError, ValueError, SyntaxError, struct.error) as problem:
        raise ImageProblem("unreadable", f"damaged header ({problem})") from None
    if width * height > max_pixels:
        raise ImageProblem("too_large", f"{width}x{height} pixels, more than {max_pixels}; make the image smaller")


def _unidentified(data: bytes) -> ImageProblem:
    """Return what is wrong with bytes that Pillow does not take for an image, by name where it is known."""
    for start, words in OPENINGS.items():
        if data.lstrip(b"\xef\xbb\xbf \t\r\n")[: len(start)].lower() == start.lower():
            return ImageProblem("not_an_image", words)
    if data[:4] in TIFF_OPENINGS and (kind := _kind_of_tiff(data)):
        return ImageProblem("unreadable", f"a TIFF of a kind that Pillow does not read ({kind}); save it as 8-bit RGB")
    return ImageProblem("not_an_image", f"not one of {', '.join(FORMATS)}")


def _kind_of_tiff(data: bytes) -> str:
    """Return a TIFF's kind of samples, their number and its compression; empty where its header is damaged."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            packing = getattr(page.compression, "name", str(page.compression))
            count, kind = int(page.samplesperpixel), str(page.dtype or f"{page.bitspersample} bits")
    except Exception:  # tifffile raises whatever it stumbles on in a damaged file.
        return ""
    packed = "" if packing == "NONE" else f", {packing}"
    return f"{kind}, {count} {'channel' if count == 1 else 'channels'}{packed}"


def _decode(data: bytes) -> tuple[Pixels, str]:
    # Pillow and not OpenCV: OpenCV fills the missing part of a truncated JPEG with grey and says nothing.
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return as_rgb(image, data)
    except NotNumbersError as problem:
        raise ImageProblem("unreadable", str(problem)) from None
    except OSError as problem:
        status = "truncated" if "truncated" in str(problem) else "unreadable"
        raise ImageProblem(status, f"cannot be decoded ({problem})") from None
    except (ValueError, SyntaxError, EOFError, struct.error, zlib.error) as problem:
        raise ImageProblem("unreadable", f"cannot be decoded ({problem})") from None


def pixels_crc32(crop: Pixels, mask: Pixels) -> int:
    """Return the CRC-32 of the crop's bytes followed by the mask's."""
    return zlib.crc32(np.ascontiguousarray(mask).data, zlib.crc32(np.ascontiguousarray(crop).data))


class ShardWriter:
    """Writes cells to numbered shards in `folder`; use as a context manager."""

    def __init__(self, folder: Path, size_px: int, rows_per_shard: int = 4096, rows_per_batch: int = 64) -> None:
        """Prepare to write crops (size_px, size_px, 3) and masks (size_px, size_px), both uint8."""
        self.folder, self.size_px = folder, size_px
        self.rows_per_shard, self.rows_per_batch = rows_per_shard, rows_per_batch
        self.crop_type = pa.fixed_shape_tensor(pa.uint8(), (size_px, size_px, 3))
        self.mask_type = pa.fixed_shape_tensor(pa.uint8(), (size_px, size_px))
        self.schema = pa.schema([("image_id", pa.string()), ("crop", self.crop_type), ("mask", self.mask_type)])
        self._rows: list[tuple[str, Pixels, Pixels]] = []
        self._writer: pa.RecordBatchFileWriter | None = None
        self._shard, self._in_shard = -1, 0
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left and close the last shard."""
        self.close()

    def add(self, image_id: str, crop: Pixels, mask: Pixels) -> tuple[str, int, int]:
        """Queue one cell; return (shard file name, row in it, CRC-32)."""
        expected = (self.size_px, self.size_px)
        if crop.shape != (*expected, 3) or mask.shape != expected or crop.dtype != np.uint8 or mask.dtype != np.uint8:
            raise ValueError(f"{image_id}: crop {crop.shape} {crop.dtype} or mask {mask.shape} {mask.dtype} is off")
        if self._writer is None or self._in_shard == self.rows_per_shard:
            self._next_shard()
        place = (f"{self._shard:05d}.arrow", self._in_shard, pixels_crc32(crop, mask))
        self._rows.append((image_id, crop, mask))
        self._in_shard += 1
        if len(self._rows) == self.rows_per_batch:
            self._flush()
        return place

    def close(self) -> None:
        """Write what is queued and close the shard."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _next_shard(self) -> None:
        self.close()
        self._shard, self._in_shard = self._shard + 1, 0
        self._writer = pa.ipc.new_file(str(self.folder / f"{self._shard:05d}.arrow"), self.schema)

    def _flush(self) -> None:
        if not self._rows or self._writer is None:
            return
        ids, crops, masks = zip(*self._rows, strict=True)
        columns = [
            pa.array(ids, pa.string()),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(crops)),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(masks)),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self.schema))
        self._rows = []


def relative_shard(shards: Path, name: str, table: Path) -> str:
    """Return shard `name` of folder `shards` as a path relative to the folder of `table`."""
    return Path(os.path.relpath(shards / name, table.parent)).as_posix()


class CellImages:
    """Crops and masks of a table that has the columns image_id, shard, shard_row, crc32; memory-mapped.

    A cell is compared with its checksum when it is first looked at: no damaged pixel is ever handed out.
    """

    def __init__(self, frame: pd.DataFrame, table: Path) -> None:
        """Map the shards that `frame` names, relative to the folder of `table`; positions are the frame's rows."""
        self.ids = [str(image_id) for image_id in frame["image_id"]]
        shards = [str(shard) for shard in frame["shard"]]
        self._crc = frame["crc32"].to_numpy(np.int64)
        self.table = table
        """The file of the table that the cells are rows of; shards are named relative to its folder."""
        self._sound = np.zeros(len(self.ids), bool)
        self._batches = {shard: _open_shard(table.parent / shard) for shard in sorted(set(shards))}
        self._places = list(zip(shards, frame["shard_row"].to_numpy(np.int64).tolist(), strict=True))

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.ids)

    def crop(self, position: int) -> Pixels:
        """Return one crop, (size, size, 3) uint8 RGB: a read-only view of the file."""
        return self._look(position, 0)

    def mask(self, position: int) -> Pixels:
        """Return one mask, (size, size) uint8 of BACKGROUND, CYTOPLASM, NUCLEUS: a read-only view of the file."""
        return self._look(position, 1)

    def crops(self, positions: Iterable[int]) -> Pixels:
        """Return a copy of several crops, (n, size, size, 3) uint8 RGB."""
        return np.stack([self.crop(int(position)) for position in positions])

    def masks(self, positions: Iterable[int]) -> Pixels:
        """Return a copy of several masks, (n, size, size) uint8."""
        return np.stack([self.mask(int(position)) for position in positions])

    def __iter__(self) -> Iterator[tuple[str, Pixels, Pixels]]:
        """Yield (image_id, crop, mask)."""
        for position, image_id in enumerate(self.ids):
            yield image_id, self.crop(position), self.mask(position)

    def _look(self, position: int, column: int) -> Pixels:
        if not self._sound[position]:
            self._check(position)
            self._sound[position] = True
        return self._stored(position)[column]

    def _check(self, position: int) -> None:
        """Raise InputError where the pixels are not those that the table was written with."""
        try:
            crop, mask = self._stored(position)
            sound = pixels_crc32(crop, mask) == int(self._crc[position])
        except IndexError:
            sound = False
        if not sound:
            shard = self._places[position][0]
            raise InputError(
                f"{self.table.parent / shard}: the pixels of {self.ids[position]!r} do not match the checksum in"
                f" {self.table}; delete both and run again"
            )

    def _stored(self, position: int) -> tuple[Pixels, Pixels]:
        shard, row = self._places[position]
        starts, batches = self._batches[shard]
        batch = int(np.searchsorted(starts, row, side="right")) - 1
        crops, masks = batches[batch]
        place = row - int(starts[batch])
        return crops[place], masks[place]


def _open_shard(path: Path) -> tuple[npt.NDArray[np.int64], list[tuple[Pixels, Pixels]]]:
    """Return the first row of each record batch, and per batch its crops and masks without a copy."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in batches:
            # Lengths that a damaged header makes up would be read from beyond the file.
            batch.validate()
        opened = [
            (batch.column("crop").to_numpy_ndarray(), batch.column("mask").to_numpy_ndarray()) for batch in batches
        ]
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        # Arrow raises whatever it stumbles on in a damaged file.
        raise InputError(f"{path}: missing or damaged image shard ({problem}); run its stage again") from None
    starts = np.cumsum([0] + [len(crops) for crops, _ in opened[:-1]], dtype=np.int64)
    return starts, opened


def on_white(crop: Pixels, mask: Pixels) -> Pixels:
    """Return the crop with everything outside the cell set to white (255)."""
    return np.where(mask[..., None] == BACKGROUND, np.uint8(255), crop)


def grey_of(crop: Pixels) -> Pixels:
    """Return the grey level of an RGB crop, (H, W) uint8, by ITU-R BT.601 weights."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def cell_of(mask: Pixels) -> Pixels:
    """Return where the cell is, (H, W) uint8 of 0 and 1."""
    return np.not_equal(mask, BACKGROUND).view(np.uint8)


def mean_residual(grey: Pixels, smooth: Pixels, region: Pixels) -> float:
    """Return the mean of |grey - smooth| over a region, grey levels 0..255; over every pixel where it is empty.

    Parameters: all (H, W) uint8; region 0 outside.
    """
    pixels = cv2.countNonZero(region)
    # The norm sums without a temporary; cv2.mean takes forty times as long under a mask.
    if pixels:
        return float(cv2.norm(grey, smooth, cv2.NORM_L1, region)) / pixels
    return float(cv2.norm(grey, smooth, cv2.NORM_L1)) / grey.size


def noise_score(crop: Pixels, mask: Pixels) -> float:
    """Return the mean of |g - median3x3(g)| over the cell, in grey levels, 0 (smooth) .. 255.

    Parameters: crop (H, W, 3) uint8 RGB; mask (H, W) uint8, BACKGROUND outside the cell. A mask without a cell counts
    every pixel. Source: arXiv 2603.16249, noise partition by median-blur residual; the cell comes from the mask and
    not from a colour test.
    """
    grey = grey_of(crop)
    return mean_residual(grey, np.asarray(cv2.medianBlur(grey, 3), np.uint8), cell_of(mask))
