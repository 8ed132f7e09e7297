"""What the data are, from names alone, and a digest of what they list. No heavy imports."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from buffycoat.core.errors import InputError
from buffycoat.data import drawn
from buffycoat.index.forms import annotations_below, holds_images, is_release, is_surely_annotated, shards_of
from buffycoat.index.places import Finder, files_below, holds_image, is_clutter, is_image
from buffycoat.index.rows import OTHER_SHEETS, PARQUET, is_table, read_rows
from buffycoat.index.settings import Columns
from buffycoat.index.words import cell_type_of, held_column, part_of

SMEARS = drawn.SMEARS
"""The drawn data set, in WBCBench's form; the rule draw_smears makes it."""
Kind = Literal["table", "class folders", "wbcbench", "boxes", "shards", "wbcbench_hub"]
"""What the data can be; `boxes` are on fields, `shards` are Parquet files with images inside."""
ROWS = "BUFFYCOAT_ROWS"
"""Environment variable by which a run hands the digest of its rows on to its jobs, behind what it was made of."""
ACCEPTED = (
    "accepted are a table (.csv, .tsv, .xlsx or .parquet), a folder that holds one folder of images per class, boxes on"
    " fields (Pascal VOC, YOLO, COCO), Parquet files with images inside, and WBCBench's folder (phase1/, phase2/ and"
    " four CSVs)"
)
WBCBENCH_PARTS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}
"""Each list of the challenge and the folder its images lie in."""


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
        near = Finder(Path()).find(str(path))
        advice = f"; did you mean {near[0]}?" if near else ": correct the path, or put the data there"
        raise InputError(f"data: no such file or folder: {path.absolute()}{advice}")
    if not path.is_dir():
        if path.suffix.lower() in PARQUET and holds_images(path):
            return "shards"
        if path.suffix.lower() in (".json", ".yaml", ".yml") and annotations_below(path)[1]:
            return "boxes"
        if is_table(path.name) or path.suffix.lower() == ".txt":
            return "table"
        advice = "; save it as .xlsx or .csv" if path.suffix.lower() in OTHER_SHEETS else ""
        raise InputError(f"data: {path}: a file whose name ends in {path.suffix or 'nothing'!r}{advice}; {ACCEPTED}")
    if any((path / name).is_file() for name in WBCBENCH_PARTS):
        return "wbcbench"
    # Most folders hold images alone: these are walked through once.
    others = any(name.lower().endswith((*PARQUET, ".xml", ".json", ".txt")) for name in files_below(path))
    if others and (shards := shards_of(path)):
        return "wbcbench_hub" if is_release(path, shards) else "shards"
    form, files = annotations_below(path) if others else (None, [])
    if form and is_surely_annotated(path, files):
        return "boxes"
    if len({folder.name for _, folder in class_folders(path)}) > 1:
        return "class folders"
    if form:
        return "boxes"
    raise InputError(f"data: {path}: {_contents_of(path)}; {ACCEPTED}")


def _folders_of(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold an image at any depth, in order of name."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_clutter(entry.name))
    return [entry for entry in inside if holds_image(str(entry))]


def base_of(root: Path) -> Path:
    """Return the folder that the class folders stand in: `root`, or below it where one folder holds everything."""
    here = root
    while True:
        holding = _folders_of(here)
        if len(holding) != 1 or any(map(is_image, _names_in(here))) or not _folders_of(holding[0]):
            return here
        if part_of(holding[0].name) or cell_type_of(holding[0].name):
            return here
        here = holding[0]


def _names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if not entry.is_dir()]


def class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """Return the class folders below `root`, each with the name of the train, val or test folder that it is in.

    Raises InputError where such folders stand beside class folders.
    """
    base = base_of(root)
    holding = _folders_of(base)
    parts = [folder for folder in holding if part_of(folder.name)]
    if not parts:
        return [(None, folder) for folder in holding]
    others = [folder.name for folder in holding if folder not in parts]
    if others:
        raise InputError(
            f"data: {base}: {parts[0].name}/ stands beside {', '.join(others[:5])}, which hold images too; put every"
            " class folder below train/, val/ or test/, or none"
        )
    return [(part.name, folder) for part in parts for folder in _folders_of(part)]


def _contents_of(root: Path) -> str:
    """Return a clause on what a folder that is not accepted holds, and what may have been meant."""
    files = sorted(name for name in _names_in(root) if not is_clutter(name))
    holding = _folders_of(root)
    found = [f"{sum(map(is_image, files))} images", f"{sum(not is_image(name) for name in files)} other files"]
    found.append(f"{len(holding)} folders with images" + (f" ({holding[0].name}/)" if holding else ""))
    meant = [root / name for name in files if is_table(name)]
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
        inside = [str(folder) for _, folder in class_folders(Path(data))]
        return [data, *(name for name in inside if not set("{}<>") & set(name.removeprefix(data)))]
    if kind == "boxes" and Path(data).is_dir():
        return [data]
    return [f"{data}/phase1", f"{data}/phase2"] if kind == "wbcbench" else []


def _columns(path: Path, names: list[str]) -> list[list[str]]:
    """Return those of the named columns that the list has, in order of name, which comes first."""
    if path.suffix.lower() in PARQUET:
        import pyarrow.parquet as pq

        schema = pq.read_schema(path).names
        held = sorted({found for name in names if (found := held_column(schema, name))})
        table = pq.read_table(path, columns=held)
        return [[name, *(str(value).strip() for value in table[name].to_pylist())] for name in held]
    rows = read_rows(path)
    held = sorted({found for name in names if (found := held_column(rows.header, name))})
    places = [(name, rows.header.index(name)) for name in held]
    return [[name, *(row[place] for row in rows.rows)] for name, place in places]


def _contents(path: Path, names: list[str]) -> list[list[str]]:
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

    Labels and groups do not count, nor do columns that `make_index` does not read; of class folders the names of the
    images count, which hold the label. Never raises for a fault of a list.
    """
    kind = kind_of(data)
    if kind == "class folders":
        contents = [[sorted(name for name in files_below(Path(data)) if is_image(name))]]
    else:
        names = ["ID", "split"] if kind == "wbcbench" else [columns.image, *([columns.split] if columns.split else [])]
        contents = [_contents(Path(name), names) for name in lists_of(data)]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:16]


def handed_digest(data: str, columns: Columns) -> str:
    """Return the digest of the rows, from the environment where the same files had it before.

    The Snakemake of a run's every job asks for it, and reading a large Excel file takes seconds.
    """
    names = [name for name in lists_of(data) if os.path.exists(name)]
    known = [(name, os.stat(name).st_mtime_ns, os.stat(name).st_size) for name in names]
    if not known:
        return rows_digest(data, columns)
    key = json.dumps([os.getcwd(), data, known, columns.model_dump()])
    told, _, digest = os.environ.get(ROWS, "").rpartition("=")
    if told != key:
        digest = rows_digest(data, columns)
        os.environ[ROWS] = f"{key}={digest}"
    return digest
