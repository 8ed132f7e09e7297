"""Reading the user's data: a table, a folder of class folders, or WBCBench's folder. Everything is text.

What Snakemake asks while it parses the rules, `kind_of` and `source_files`, looks at names alone and imports nothing
heavy; pandas and Arrow are imported where lists are read.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from buffycoat.core.errors import InputError
from buffycoat.index.settings import MakeIndex

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("buffycoat")

Kind = Literal["table", "class folders", "wbcbench"]
"""What the data can be."""
SMEARS = "results/0_simulate/smears"
"""The drawn data set, in WBCBench's form; the rule draw_smears makes it."""
TABLES = (".csv", ".parquet", ".pq")
"""How the name of a table ends, in any case."""
IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp")
"""How the name of an image in a class folder ends, in any case: the formats that are decoded."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names, in any case, of folders above class folders that divide the data, and what they mean."""
LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""Files and folders that systems leave beside images, besides hidden ones."""
ACCEPTED = (
    "accepted are a table (.csv or .parquet), a folder that holds one folder of images per class, and WBCBench's folder"
    " (phase1/, phase2/ and four CSVs)"
)

WBCBENCH_PARTS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}
"""Each list of the challenge and the folder its images lie in."""


@dataclass(frozen=True)
class Listing:
    """What a source says: a frame with image_id, file, label, split, group, role (text; missing is None)."""

    frame: pd.DataFrame
    root: Path
    test_labels: dict[str, str]


def kind_of(data: str) -> Kind:
    """Return what `data` names, from names alone; raises InputError where it is missing or nothing that is accepted."""
    if Path(data) == Path(SMEARS):
        return "wbcbench"
    try:
        return _kind_of_path(Path(data))
    except OSError as problem:
        raise InputError(f"data: {data}: cannot be looked at ({problem.strerror})") from None


def _kind_of_path(path: Path) -> Kind:
    if not path.exists():
        raise InputError(f"data: no such file or folder: {path}: correct the path, or put the data there")
    if not path.is_dir():
        if path.suffix.lower() in TABLES:
            return "table"
        raise InputError(f"data: {path}: a file whose name ends in {path.suffix or 'nothing'!r}; {ACCEPTED}")
    if any((path / name).is_file() for name in WBCBENCH_PARTS):
        return "wbcbench"
    if len({folder.name for _, folder in class_folders(path)}) > 1:
        return "class folders"
    raise InputError(f"data: {path}: {_contents_of(path)}; {ACCEPTED}")


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in LEFT_BY_SYSTEMS


def _is_image(name: str) -> bool:
    return not _is_clutter(name) and Path(name).suffix.lower() in IMAGES


def _folders_of(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold an image at any depth, in order of name."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _is_clutter(entry.name))
    return [entry for entry in inside if any(_is_image(name) for *_, names in os.walk(entry) for name in names)]


def class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """Return the class folders below `root`, each with the name of the train, val or test folder that it is in.

    Raises InputError where such folders stand beside class folders.
    """
    holding = _folders_of(root)
    parts = [folder for folder in holding if folder.name.lower() in SPLITS]
    if not parts:
        return [(None, folder) for folder in holding]
    others = [folder.name for folder in holding if folder not in parts]
    if others:
        raise InputError(
            f"data: {root}: {parts[0].name}/ stands beside {', '.join(others[:5])}, which hold images too; put every"
            " class folder below train/, val/ or test/, or none"
        )
    return [(part.name, folder) for part in parts for folder in _folders_of(part)]


def _contents_of(root: Path) -> str:
    """Return a clause on what a folder that is not accepted holds, and what may have been meant."""
    entries = sorted(entry for entry in root.iterdir() if not _is_clutter(entry.name))
    files = [entry.name for entry in entries if entry.is_file()]
    holding = _folders_of(root)
    found = [f"{sum(map(_is_image, files))} images", f"{sum(not _is_image(name) for name in files)} other files"]
    found.append(f"{len(holding)} folders with images" + (f" ({holding[0].name}/)" if holding else ""))
    meant = [root / name for name in files if Path(name).suffix.lower() in TABLES]
    meant += [folder for folder in holding if len({inner.name for _, inner in class_folders(folder)}) > 1]
    named = " or ".join(str(path) for path in meant[:3])
    return f"holds {', '.join(found)}" + (f"; perhaps you mean {named}" if meant else "")


def source_files(data: str, settings: MakeIndex) -> list[str]:
    """Return the files and folders whose change means a new index; raises InputError as `kind_of` does."""
    kind = kind_of(data)
    if kind == "table":
        return [data]
    if kind == "class folders":
        # Braces and angle brackets mean something else to Snakemake: such a folder is read, and not watched.
        return [data, *(str(folder) for _, folder in class_folders(Path(data)) if not set("{}<>") & set(folder.name))]
    names = [*WBCBENCH_PARTS, "phase1", "phase2"]
    return [f"{data}/{name}" for name in names] + ([settings.test_labels] if settings.test_labels else [])


def read_text(path: Path) -> str:
    """Return a text file's content: UTF-8 with or without byte-order mark, UTF-16 with one, otherwise Latin-1."""
    try:
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None


def _require_names(header: list[str], path: Path) -> None:
    if "" in header or len(set(header)) != len(header):
        raise InputError(f"{path}: the header has an empty or repeated name: {header}")


def read_csv(path: Path) -> pd.DataFrame:
    """Return a CSV's rows as text; the index is the line in the file. Raises InputError on ragged rows."""
    import pandas as pd

    csv.field_size_limit(1_000_000)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as problem:
        raise InputError(f"{path}: line {reader.line_num}: not valid CSV ({problem})") from None
    if not rows:
        raise InputError(f"{path}: the file is empty; it needs a header line and one line per image")
    header = rows[0]
    while header and not header[-1]:
        header = header[:-1]
    _require_names(header, path)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) < len(header) or any(row[len(header) :]):
            raise InputError(f"{path}: line {line}: {len(row)} values, but the header names {len(header)} columns")
    return pd.DataFrame([row[: len(header)] for row in rows[1:]], columns=header, index=lines[1:], dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file's rows as they are, None where empty; the index counts them from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # What pandas or Arrow noted beside the columns is left aside: an index of pandas is a column like others.
        _require_names(pq.read_schema(path).names, path)
        table = pq.read_table(path).replace_schema_metadata(None)
        frame = table.to_pandas(integer_object_nulls=True).astype(object)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError) as problem:
        # Arrow raises whatever it stumbles on in a damaged file.
        raise InputError(f"{path}: not a readable Parquet file ({problem})") from None
    frame.index += 1
    values: pd.DataFrame = frame.where(frame.notna(), None)
    return values


def read_table(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet file; the index is the line or row, for messages."""
    frame = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else read_csv(path)
    if frame.empty:
        raise InputError(f"{path}: no rows: the table needs at least one image")
    return frame


def _texts(column: pd.Series) -> list[str | None]:
    return [None if value is None else str(value).strip() or None for value in column]


def _column(frame: pd.DataFrame, name: str, path: Path, setting: str | None = None) -> list[str | None]:
    import numpy as np

    if name not in frame.columns:
        found = ", ".join(str(column) for column in frame.columns)
        advice = f"; name yours in index.make_index.{setting}" if setting else ""
        raise InputError(f"{path}: no column '{name}' (found: {found}){advice}")
    if any(isinstance(value, (bytes, list, dict, np.ndarray)) for value in frame[name].head(1)):
        raise InputError(f"{path}: column '{name}' holds {type(frame[name].iloc[0]).__name__}s, not texts or numbers")
    return _texts(frame[name])


def _check_ids(ids: list[str | None], lines: list[str]) -> list[str]:
    """Return the ids; raises InputError on an empty or a repeated one, naming both lines."""
    first: dict[str, str] = {}
    for image_id, line in zip(ids, lines, strict=True):
        if image_id is None:
            raise InputError(f"{line}: the image's name is empty")
        if image_id in first:
            raise InputError(f"{line}: the image '{image_id}' is listed twice (first: {first[image_id]}); keep one row")
        first[image_id] = line
    return [image_id for image_id in ids if image_id is not None]


def read_listing(data: str, settings: MakeIndex) -> Listing:
    """Return what the data list; raises InputError on anything wrong with the lists themselves."""
    kind = kind_of(data)
    if kind == "table":
        return _read_own(Path(data), settings)
    return _read_wbcbench(Path(data), settings) if kind == "wbcbench" else _read_folders(Path(data))


def _read_wbcbench(root: Path, settings: MakeIndex) -> Listing:
    import pandas as pd

    parts = []
    for name, folder in WBCBENCH_PARTS.items():
        path = root / name
        frame = read_csv(path)
        ids = _column(frame, "ID", path)
        part = pd.DataFrame({"image_id": ids, "file": [f"{folder}/{image_id}" for image_id in ids]}, dtype=object)
        part["label"] = _column(frame, "labels", path)
        part["split"] = _texts(frame["split"]) if "split" in frame.columns else folder.replace("/", "_")
        part["role"] = "test" if folder == "phase2/test" else "train"
        part["where"] = [f"{path}: line {line}" for line in frame.index]
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if frame.empty:
        raise InputError(f"{root}: the four lists hold no images")
    frame["image_id"] = _check_ids(frame["image_id"].tolist(), frame["where"].tolist())
    frame["group"] = None
    frame.loc[frame["role"] == "test", "label"] = None
    return Listing(frame.drop(columns="where"), root, _read_answers(settings))


def _read_answers(settings: MakeIndex) -> dict[str, str]:
    if not settings.test_labels:
        return {}
    path = Path(settings.test_labels)
    frame = read_csv(path)
    ids, labels = _column(frame, "ID", path), _column(frame, "labels", path)
    return {str(i): label for i, label in zip(ids, labels, strict=True) if label is not None}


def _read_own(path: Path, settings: MakeIndex) -> Listing:
    import pandas as pd

    frame = read_table(path)
    lines = [f"{path}: line {line}" for line in frame.index]
    ids = _check_ids(_column(frame, settings.image_column, path, "image_column"), lines)
    listed = pd.DataFrame({"image_id": ids, "file": ids}, dtype=object)
    listed["label"] = _column(frame, settings.label_column, path, "label_column")
    listed["split"] = _own_split(frame, settings, path)
    listed["group"] = _own_group(frame, settings, path)
    listed["role"] = ["test" if value in settings.test_values else "train" for value in listed["split"]]
    return _without_answers(listed, Path(settings.root) if settings.root else path.parent)


def _without_answers(listed: pd.DataFrame, root: Path) -> Listing:
    """Return a listing whose test rows have no label any more: their labels are its `test_labels`."""
    is_test = (listed["role"] == "test").to_numpy()
    answers = {
        str(image_id): str(label)
        for image_id, label in zip(listed["image_id"][is_test], listed["label"][is_test], strict=True)
        if label is not None
    }
    listed.loc[is_test, "label"] = None
    return Listing(listed, root, answers)


def _files_below(root: Path) -> Iterator[Path]:
    """Yield every file below `root`, relative to it and without clutter; raises InputError at a link to a folder."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        for link in (Path(place) / name for name in folders):
            if link.is_symlink():
                raise InputError(f"{link}: a link to a folder, which is not followed; put the folder itself there")
        yield from (Path(place, name).relative_to(root) for name in names if not _is_clutter(name))


def _read_folders(root: Path) -> Listing:
    """Return the images of class folders; those beside the class folders have no label."""
    import pandas as pd

    divided = any(split is not None for split, _ in class_folders(root))
    files = sorted(_files_below(root))
    others = [file for file in files if not _is_image(file.name)]
    if others:
        log.warning("%s: %d files are no images and left aside, for instance %s", root, len(others), others[0])
    rows = []
    for file in (file for file in files if _is_image(file.name)):
        *folders, _ = file.parts
        split = folders.pop(0) if divided and folders else None
        means = SPLITS.get((split or "").lower(), "train")
        name = _utf8(file.as_posix(), root)
        label = folders[0] if folders else None
        rows.append((name, name, label, split, None, "test" if means == "test" else "train"))
    listed = pd.DataFrame(rows, columns=["image_id", "file", "label", "split", "group", "role"], dtype=object)
    held = sorted({str(split) for split in listed["split"] if SPLITS.get(str(split).lower()) == "val"})
    if held:
        log.info("%s: %s/ counts as training: folds are made of all training images", root, held[0])
    return _without_answers(listed, root)


def _utf8(name: str, root: Path) -> str:
    """Return the name; raises InputError where a table could not hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{root}: the file name {ascii(name)} is not UTF-8; rename the file") from None
    return name


def _own_split(frame: pd.DataFrame, settings: MakeIndex, path: Path) -> list[str | None]:
    if settings.split_column is None:
        return [None] * len(frame)
    # The default name may be absent; a name that the user chose may not. A rule hands on all settings, so the step
    # cannot tell which of them were set.
    default = MakeIndex.model_fields["split_column"].default
    if settings.split_column not in frame.columns and settings.split_column == default:
        return [None] * len(frame)
    return _column(frame, settings.split_column, path, "split_column")


def _own_group(frame: pd.DataFrame, settings: MakeIndex, path: Path) -> list[str | None]:
    if settings.group_column is not None:
        return _column(frame, settings.group_column, path, "group_column")
    return _texts(frame["group"]) if "group" in frame.columns else [None] * len(frame)
