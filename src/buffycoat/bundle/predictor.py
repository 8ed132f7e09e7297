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
import pyarrow as pa

from buffycoat.bundle.inputs import USER, Given, checked, listed, shown
from buffycoat.bundle.labelling import label_images
from buffycoat.bundle.models import Models
from buffycoat.bundle.summary import score_line
from buffycoat.bundle.verdict import Verdict, judge
from buffycoat.core.environment import cores, name_extras, stay_offline
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, write_json
from buffycoat.data.pages import write_spreadsheet
from buffycoat.data.tables.review import NEW_IMAGES

log = logging.getLogger("buffycoat")
CHUNK = 512
"""Images that are worked on, and stored, at once."""
COLUMNS = [column.name for column in NEW_IMAGES.columns]


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

    @property
    def names(self) -> dict[str, str]:
        """The name of each class, by its code."""
        return dict(self.models.names)

    def predict(self, images: Given | Iterable[Given], image_column: str = "image") -> pd.DataFrame:
        """Return the table of new images (docs/tables.md), a row per image, in order, with the user's columns behind.

        `images`: a file, a folder (every file below it), a table or a data frame (their column `image_column`), or
        several of these. A batch that is unlike the training images is told in the log; `verdict` says it in full.
        """
        rows = listed(images, image_column)
        parts = [self.predict_rows(part) for part in self.chunks(rows)]
        table = self.with_users_columns(pd.concat(parts, ignore_index=True), rows)
        if (verdict := self.verdict(table)).verdict == "unlike":
            log.warning("%s", "\n".join(verdict.lines()))
        return table

    def verdict(self, table: pd.DataFrame) -> Verdict:
        """Return whether the images of a table that `predict` returned are like those that the model learned from."""
        return judge(table, self.models.manifest.usual)

    def with_users_columns(self, table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the table with the user's columns of `rows` (as `listed` gave them) after its own.

        One that has the name of a column of ours gets `input_` before it.
        """
        taken = {*COLUMNS, *(f"p_{code}" for code in self.classes)}
        found = {}
        for column in rows.columns[rows.columns.str.startswith(USER)]:
            name = str(column).removeprefix(USER)
            while name in taken:
                name = f"input_{name}"
            taken.add(name)
            found[name] = rows[column].to_numpy(object)
        users = pd.DataFrame(found, index=table.index, dtype=object).infer_objects()
        return pd.concat([table, users], axis=1)

    def chunks(self, rows: pd.DataFrame) -> list[pd.DataFrame]:
        """Return the rows in chunks."""
        return [rows.iloc[start : start + self.chunk] for start in range(0, len(rows), self.chunk)]

    def predict_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the table of new images of rows that `listed` gave; image shards go to a temporary folder."""
        found = checked(rows, self._pool)
        try:
            return self._labelled(found)
        except InputError:
            # A file may vanish or change between the check and the work: its row says so, the others get their labels.
            again = checked(rows, self._pool)
            if again["sha256"].equals(found["sha256"]):
                raise
            return self._labelled(again)

    def _labelled(self, found: pd.DataFrame) -> pd.DataFrame:
        """Return the table of new images of checked rows."""
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

        The verdict on the batch goes into a JSON file beside it (`verdict_file`).

        Finished chunks lie in a folder beside `out` until the whole is written; they are used again where bundle,
        images and package are the same. `told` is called with the number of images after each chunk.
        """
        parts = Parts(out, self.models.fingerprint(), rows, self.exact, self.chunk)
        for number, part in enumerate(self.chunks(rows)):
            if not parts.file(number).exists():
                NEW_IMAGES.write(self.predict_rows(part), parts.file(number))
            told(len(part))
        table = self.with_users_columns(parts.joined(len(self.chunks(rows))), rows)
        write_table(table, self.classes, out)
        manifest = self.models.manifest
        about = {"model": manifest.name, "note": manifest.note, "score": score_line(manifest)}
        write_json({**self.verdict(table).as_json(), **about}, verdict_file(out))
        parts.remove()
        return table


def verdict_file(out: Path) -> Path:
    """Return where the verdict on the images of a result lies: labels.csv has labels.verdict.json."""
    return out.with_suffix(".verdict.json")


def completed(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with every column of the table of new images; those without a prediction say why."""
    table = table.reindex(columns=[name for name in COLUMNS if name != "image_id"])
    bad = (table["status"] != "ok").to_numpy(bool)
    table["reason"] = table["reason"].astype(object).where(~bad, found.set_index("image_id")["reason"])
    nothing = {"near_miss_reason": "", "trace": "[]", "kinds": "", "suspect_reason": "", "unlike": ""}
    for name, value in (nothing | {"changed": False, "suspect": False}).items():
        table[name] = table[name].astype(object).where(~bad, value)
    return typed(table.reset_index())


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of the table of new images, the same types whatever the rows hold."""
    columns: dict[str, pd.Series] = {}
    for column in NEW_IMAGES.columns:
        values = table[column.name]
        if pa.types.is_boolean(column.type):
            columns[column.name] = values.astype("boolean")
        elif pa.types.is_integer(column.type):
            columns[column.name] = values.astype("Int32")
        elif pa.types.is_floating(column.type):
            columns[column.name] = values.astype(np.float64)
        else:
            columns[column.name] = values.astype(object).where(values.notna(), None)
    return pd.DataFrame(columns)


def write_table(table: pd.DataFrame, classes: list[str], out: Path) -> None:
    """Write the table as Parquet, or as CSV with a column per class in the place of the list."""
    if out.suffix.lower() != ".csv":
        NEW_IMAGES.write(table, out)
        return
    values = [np.full(len(classes), np.nan) if row is None else row for row in table["probabilities"]]
    columns = pd.DataFrame(np.array(values), columns=[f"p_{code}" for code in classes], index=table.index)
    ours = table[COLUMNS].drop(columns="probabilities").join(columns)
    write_spreadsheet(ours.join(table.drop(columns=COLUMNS)), out)


def require_result(out: Path) -> None:
    """Raise InputError where no table can be written to `out`."""
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{out}: name a file that ends in .parquet or .csv")
    if out.is_dir():
        raise InputError(f"{out}: a folder; name a file")


class Parts:
    """The finished chunks of a run, kept beside its result until that is written."""

    def __init__(self, out: Path, bundle: str, rows: pd.DataFrame, exact: bool, chunk: int) -> None:
        """Open the folder; chunks of another run are deleted. Raises InputError on a result of unknown form."""
        require_result(out)
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
        return pd.concat([typed(NEW_IMAGES.read(self.file(number))) for number in range(count)], ignore_index=True)

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
