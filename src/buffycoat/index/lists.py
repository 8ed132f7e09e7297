"""What the data are, from names alone; lists of images as rows of text, and a digest of them. No heavy imports."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Literal

from buffycoat.core.errors import InputError
from buffycoat.index.forms import annotations_below, holds_images, is_release, is_surely_annotated, shards_of
from buffycoat.index.settings import Columns

Kind = Literal["table", "class folders", "wbcbench", "boxes", "shards", "wbcbench_hub"]
"""What the data can be; `boxes` are on fields, `shards` are Parquet files with images inside."""
SMEARS = "results/0_simulate/smears"
"""The drawn data set, in WBCBench's form; the rule draw_smears makes it."""
IMAGES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp")
"""How the name of an image in a class folder ends, in any case: the formats that are decoded."""
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names, in any case, of folders above class folders that divide the data, and what they mean."""
LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""Files and folders that systems leave beside images, besides hidden ones."""
ACCEPTED = (
    "accepted are a table (.csv or .parquet), a folder that holds one folder of images per class, boxes on fields"
    " (Pascal VOC, YOLO, COCO), Parquet files with images inside, and WBCBench's folder (phase1/, phase2/, four CSVs)"
)
WBCBENCH_PARTS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}
"""Each list of the challenge and the folder its images lie in."""
PARQUET = (".parquet", ".pq")
"""How the names of Parquet files end; every other list is a CSV."""
TABLES = (".csv", *PARQUET)
"""How the names of tables end, in any case."""


def kind_of(data: str) -> Kind:
    """Return what `data` names, from names alone; raises InputError where it is missing or nothing that is accepted."""
    if Path(data) == Path(SMEARS):
        return "wbcbench"
    try:
        return _kind_of_path(Path(data))
    except OSError as problem:
        raise InputError(f"data: {data}: cannot be looked at ({problem.strerror})") from None


def _kind_of_path(path: Path) -> Kind:
    if not path.exists() and shards_of(path):
        return "shards"
    if not path.exists():
        raise InputError(f"data: no such file or folder: {path}: correct the path, or put the data there")
    if not path.is_dir():
        if path.suffix.lower() in PARQUET and holds_images(path):
            return "shards"
        if path.suffix.lower() in TABLES:
            return "table"
        if path.suffix.lower() in (".json", ".yaml", ".yml") and annotations_below(path)[1]:
            return "boxes"
        raise InputError(f"data: {path}: a file whose name ends in {path.suffix or 'nothing'!r}; {ACCEPTED}")
    if any((path / name).is_file() for name in WBCBENCH_PARTS):
        return "wbcbench"
    if shards := shards_of(path):
        return "wbcbench_hub" if is_release(path, shards) else "shards"
    form, files = annotations_below(path)
    if form and is_surely_annotated(path, files):
        return "boxes"
    if len({folder.name for _, folder in class_folders(path)}) > 1:
        return "class folders"
    if form:
        return "boxes"
    raise InputError(f"data: {path}: {_contents_of(path)}; {ACCEPTED}")


def is_clutter(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems leave beside images."""
    return name.startswith(".") or name in LEFT_BY_SYSTEMS


def is_image(name: str) -> bool:
    """Return whether a file's name is that of an image."""
    return not is_clutter(name) and Path(name).suffix.lower() in IMAGES


def _folders_of(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold an image at any depth, in order of name."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_clutter(entry.name))
    return [entry for entry in inside if any(is_image(name) for *_, names in os.walk(entry) for name in names)]


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
    entries = sorted(entry for entry in root.iterdir() if not is_clutter(entry.name))
    files = [entry.name for entry in entries if entry.is_file()]
    holding = _folders_of(root)
    found = [f"{sum(map(is_image, files))} images", f"{sum(not is_image(name) for name in files)} other files"]
    found.append(f"{len(holding)} folders with images" + (f" ({holding[0].name}/)" if holding else ""))
    meant = [root / name for name in files if Path(name).suffix.lower() in TABLES]
    meant += [folder for folder in holding if len({inner.name for _, inner in class_folders(folder)}) > 1]
    named = " or ".join(str(path) for path in meant[:3])
    return f"holds {', '.join(found)}" + (f"; perhaps you mean {named}" if meant else "")


def lists_of(data: str) -> list[str]:
    """Return the files that list the images; none for class folders. Raises InputError as `kind_of` does."""
    kind = kind_of(data)
    if kind in ("shards", "wbcbench_hub"):
        return [str(path) for path in shards_of(Path(data))]
    return (
        [data]
        if kind == "table" or (kind == "boxes" and Path(data).is_file())
        else [f"{data}/{name}" for name in WBCBENCH_PARTS if kind == "wbcbench"]
    )


def folders_of(data: str) -> list[str]:
    """Return the folders of images that Snakemake watches for changes; raises InputError as `kind_of` does."""
    kind = kind_of(data)
    if kind == "class folders":
        # Braces and angle brackets mean something else to Snakemake: such a folder is read, and not watched.
        return [data, *(str(folder) for _, folder in class_folders(Path(data)) if not set("{}<>") & set(folder.name))]
    if kind == "boxes" and Path(data).is_dir():
        return [data]
    return [f"{data}/phase1", f"{data}/phase2"] if kind == "wbcbench" else []


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


def require_names(header: list[str], path: Path) -> None:
    """Raise InputError where the header of a list has an empty or a repeated name."""
    if "" in header or len(set(header)) != len(header):
        raise InputError(f"{path}: the header has an empty or repeated name: {header}")


def csv_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return a CSV's header, its rows of stripped text, and the line of each; raises InputError on ragged rows."""
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
    require_names(header, path)
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) < len(header) or any(row[len(header) :]):
            raise InputError(f"{path}: line {line}: {len(row)} values, but the header names {len(header)} columns")
    return header, [row[: len(header)] for row in rows[1:]], lines[1:]


def _columns(path: Path, names: list[str | None]) -> list[list[str]]:
    """Return those of the named columns that the list has, in order of name, which comes first."""
    if path.suffix.lower() in PARQUET:
        import pyarrow.parquet as pq

        held = sorted(name for name in pq.read_schema(path).names if name in names)
        table = pq.read_table(path, columns=held)
        return [[name, *(str(value).strip() for value in table[name].to_pylist())] for name in held]
    header, rows, _ = csv_rows(path)
    places = sorted((name, place) for place, name in enumerate(header) if name in names)
    return [[name, *(row[place] for row in rows)] for name, place in places]


def _contents(path: Path, names: list[str | None]) -> list[list[str]]:
    """Return the named columns of a list; of one that is not as it should be its digest: its step will say why."""
    try:
        return _columns(path, names)
    except Exception:  # Arrow raises whatever it stumbles on in a damaged file.
        try:
            return [["damaged", hashlib.sha256(path.read_bytes()).hexdigest()]]
        except OSError as problem:
            return [["unreadable", str(problem.errno)]]


def rows_digest(data: str, columns: Columns) -> str:
    """Return 16 hexadecimal digits that change with the images that are listed, their order and their parts.

    Labels and groups do not count, nor do columns that `make_index` does not read. Never raises for a fault of a list.
    """
    names: list[str | None] = [columns.image, columns.split]
    if kind_of(data) == "wbcbench":
        names = ["ID", "split"]
    contents = [_contents(Path(name), names) for name in lists_of(data)]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]
