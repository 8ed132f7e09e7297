"""Labels for new images from a bundle: one row per image, whatever happens to it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd

from buffycoat.bundle.labelling import label_images
from buffycoat.bundle.models import Models
from buffycoat.core.environment import cores, name_extras, stay_offline
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, write_json
from buffycoat.data.pages import write_spreadsheet
from buffycoat.data.tables.review import NEW_IMAGES
from buffycoat.index.make_index import Finding, check_file
from buffycoat.index.sources import read_table

log = logging.getLogger("buffycoat")
CHUNK = 512
"""Images that are worked on, and stored, at once."""
TABLES = (".csv", ".parquet", ".pq")
COLUMNS = [column.name for column in NEW_IMAGES.columns]


def shown(name: str) -> str:
    """Return a file name as text that can be stored: bytes that are no UTF-8 as backslash escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _of_folder(folder: Path) -> list[dict[str, str]]:
    """Return a row for every file below a folder, in order of name; hidden ones are counted in the log."""
    files, hidden = [], 0
    for place, folders, names in os.walk(folder):
        hidden += sum(name.startswith(".") for name in [*folders, *names])
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(place) / name for name in names if not name.startswith(".")]
    if hidden:
        log.warning("%s: %d hidden files and folders (their names begin with a dot) are left out", folder, hidden)
    if not files:
        raise InputError(f"{folder}: holds no file")
    return [_row(str(file), str(file.relative_to(folder)), folder) for file in sorted(files)]


def _of_table(table: Path, column: str) -> list[dict[str, str]]:
    """Return a row for every row of a table, whose paths are relative to its folder."""
    frame = read_table(table)
    if column not in frame.columns:
        found = ", ".join(str(name) for name in frame.columns)
        raise InputError(f"{table}: no column {column!r} (found: {found}); name yours with --image-column")
    rows = []
    for line, name in zip(frame.index, frame[column], strict=True):
        if pd.isna(name) or not str(name).strip():
            raise InputError(f"{table}: line {line}: the image's name is empty")
        rows.append(_row(str(name).strip(), str(name).strip(), table.parent))
    return rows


def _row(image_id: str, name: str, root: Path) -> dict[str, str]:
    return {"image_id": shown(image_id), "name": name, "root": str(root)}


def listed(inputs: list[Path], image_column: str = "image") -> pd.DataFrame:
    """Return a row per image: image_id, name (below its root), root.

    A folder stands for every file below it, a CSV or Parquet table for its rows, any other path for one image, whether
    it exists or not. Raises InputError where nothing is given, a table is no table, or two images have one name.
    """
    rows: list[dict[str, str]] = []
    for given in inputs:
        if given.is_dir():
            rows += _of_folder(given)
        elif given.suffix.lower() in TABLES:
            rows += _of_table(given, image_column)
        else:
            # Whoever names a file means it, also where it is a link.
            real = Path(os.path.realpath(given))
            rows.append(_row(str(given), real.name, real.parent))
    if not rows:
        raise InputError("no images: name files, folders, or tables with a column of paths")
    # As objects: names that are no UTF-8 are no strings to Arrow.
    frame = pd.DataFrame(rows, dtype=object)
    twice = frame[frame.duplicated("image_id")]
    if not twice.empty:
        raise InputError(f"{twice['image_id'].iloc[0]}: named twice; name every image once")
    return frame


def checked(rows: pd.DataFrame, pool: ThreadPoolExecutor) -> pd.DataFrame:
    """Return the rows with path, status, reason, width, height (pixels) and sha256; a fault of a file is a status.

    `path` opens the file: it may hold bytes that are no UTF-8, which no table can store; `shown` makes text of it.
    """

    def check(name: str, root: str) -> Finding:
        return check_file(name, Path(root))

    findings = list(pool.map(check, rows["name"], rows["root"]))
    paths = [os.path.join(root, name) for root, name in zip(rows["root"], rows["name"], strict=True)]
    found = pd.DataFrame([vars(finding) for finding in findings], dtype=object).set_index(rows.index)
    return rows.assign(path=pd.Series(paths, index=rows.index, dtype=object)).join(found)


class Predictor:
    """A bundle, ready to label images. Use it as a context manager, or call `close` at the end.

    `bundle` is the folder that `buffycoat run my.yaml -- pack_bundle` wrote.

    `weights` are the places of weights that the bundle does not hold, by the setting that names them.

    `exact` fills up the last batch, so that the numbers of an image do not depend on the other images. On the same CPU
    with as many threads they equal the workflow's exactly. Without it a few images come sooner, and numbers may differ
    very slightly.

    `chunk` is the number of images that are worked on at once.

    Raises InputError if the bundle is not what was packed, or if weights are missing.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        weights: Mapping[str, Path | str] | None = None,
        exact: bool = True,
        chunk: int = CHUNK,
    ) -> None:
        """Check and load the bundle."""
        stay_offline()
        self.exact, self.chunk = exact, max(1, chunk)
        threads = cores()
        self._pool = ThreadPoolExecutor(threads)
        places = {key: Path(place) for key, place in (weights or {}).items()}
        self.models = Models(Path(bundle), places, self._pool, threads)
        with name_extras():
            self.models.load()

    @property
    def classes(self) -> list[str]:
        """The class codes, in the order of the column `probabilities`."""
        return list(self.models.codes)

    def __enter__(self) -> Predictor:
        """Return the predictor itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Let go of the threads."""
        self.close()

    def close(self) -> None:
        """End the threads that read images."""
        self._pool.shutdown()

    def predict(self, images: Iterable[Path | str], image_column: str = "image") -> pd.DataFrame:
        """Return the table of new images (docs/tables.md), one row per image, in the order given.

        `images` is a list of files, folders (every file below them) and tables (their column `image_column`). Write a
        list for a single folder too.
        """
        rows = listed([Path(image) for image in images], image_column)
        parts = [self.predict_rows(part) for part in self.chunks(rows)]
        return pd.concat(parts, ignore_index=True)

    def chunks(self, rows: pd.DataFrame) -> list[pd.DataFrame]:
        """Return the rows in chunks."""
        return [rows.iloc[start : start + self.chunk] for start in range(0, len(rows), self.chunk)]

    def predict_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the table of new images of rows that `listed` gave; image shards go to a temporary folder."""
        found = checked(rows, self._pool)
        sound = found[found["status"] == "ok"]
        table = found.set_index("image_id")[["path", "sha256", "status"]]
        table["path"] = [shown(path) for path in table["path"]]
        if sound.empty:
            return completed(table, found)
        with tempfile.TemporaryDirectory(prefix="buffycoat-") as folder:
            labelled = label_images(sound, self.models, Path(folder), self.exact)
        return completed(table.join(labelled), found)

    def predict_to(
        self, out: Path, rows: pd.DataFrame, told: Callable[[int], None] = lambda count: None
    ) -> pd.DataFrame:
        """Write the table of new images to `out` (.parquet or .csv) and return it; continues an interrupted run.

        Finished chunks lie in a folder beside `out` until the whole is written; they are used again where bundle,
        images and package are the same. `told` is called with the number of images after each chunk.
        """
        parts = Parts(out, self.models.fingerprint(), rows, self.exact, self.chunk)
        for number, part in enumerate(self.chunks(rows)):
            if not parts.file(number).exists():
                NEW_IMAGES.write(self.predict_rows(part), parts.file(number))
            told(len(part))
        table = parts.joined(len(self.chunks(rows)))
        write_table(table, self.classes, out)
        parts.remove()
        return table


def completed(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with every column of the table of new images; those without a prediction say why."""
    table = table.reindex(columns=[name for name in COLUMNS if name != "image_id"])
    bad = (table["status"] != "ok").to_numpy(bool)
    reasons = found.set_index("image_id")["reason"]
    table["reason"] = table["reason"].where(~bad, reasons)
    for name, value in (("near_miss_reason", ""), ("trace", "[]"), ("kinds", ""), ("suspect_reason", "")):
        table[name] = table[name].where(~bad, value)
    for name in ("changed", "suspect"):
        table[name] = table[name].astype("boolean").fillna(False)
    for name in ("cell_found", "noisy", "blurred", "badly_lit", "restored"):
        table[name] = table[name].astype("boolean")
    table["cells"] = table["cells"].astype("Int32")
    return table.reset_index()[COLUMNS]


def write_table(table: pd.DataFrame, classes: list[str], out: Path) -> None:
    """Write the table as Parquet, or as CSV with a column per class in the place of the list."""
    if out.suffix.lower() != ".csv":
        NEW_IMAGES.write(table, out)
        return
    values = [np.full(len(classes), np.nan) if row is None else row for row in table["probabilities"]]
    columns = pd.DataFrame(np.array(values), columns=[f"p_{code}" for code in classes], index=table.index)
    write_spreadsheet(table.drop(columns="probabilities").join(columns), out)


class Parts:
    """The finished chunks of a run, kept beside its result until that is written."""

    def __init__(self, out: Path, bundle: str, rows: pd.DataFrame, exact: bool, chunk: int) -> None:
        """Open the folder; chunks of another run are deleted. Raises InputError on a result of unknown form."""
        if out.suffix.lower() not in (".parquet", ".csv"):
            raise InputError(f"{out}: name a file that ends in .parquet or .csv")
        if out.is_dir():
            raise InputError(f"{out}: a folder; name a file")
        self.folder = out.with_name(f".{out.name}.parts")
        stamp = hashlib.sha256(json.dumps([bundle, _listing(rows), exact, chunk]).encode("utf-8", "surrogateescape"))
        plan = self.folder / "plan.json"
        if not plan.exists() or read_json(plan) != {"fingerprint": stamp.hexdigest()}:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_json({"fingerprint": stamp.hexdigest()}, plan)

    def file(self, number: int) -> Path:
        """Return where a chunk lies."""
        return self.folder / f"{number:06d}.parquet"

    def joined(self, count: int) -> pd.DataFrame:
        """Return the rows of all chunks, in order."""
        return pd.concat([NEW_IMAGES.read(self.file(number)) for number in range(count)], ignore_index=True)

    def remove(self) -> None:
        """Delete the folder: the result is written."""
        shutil.rmtree(self.folder)


def _listing(rows: pd.DataFrame) -> list[list[object]]:
    """Return what tells these files, as they are now, from others."""
    listing: list[list[object]] = []
    for image_id, name, root in zip(rows["image_id"], rows["name"], rows["root"], strict=True):
        try:
            known = os.stat(os.path.join(root, name))
            listing.append([image_id, root, name, known.st_size, known.st_mtime_ns])
        except (OSError, ValueError):
            listing.append([image_id, root, name, None, None])
    return listing
