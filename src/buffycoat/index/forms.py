"""Which files hold boxes on fields, or images inside Parquet; told from names and first bytes. No heavy imports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from buffycoat.index.places import files_below, is_clutter, is_image
from buffycoat.index.rows import PARQUET, read_rows, read_text

Form = Literal["voc", "yolo", "coco"]
"""How boxes on fields are written down."""
HUB_PARTS = ("pristine", "degraded")
"""Folders of WBCBench's full release."""
LABEL_FOLDERS = ("labels", "label", "annotations", "annotation", "xmls", "xml")
"""Folders, in any case, of the boxes of fields that lie in a folder beside them."""
NAMES_FILES = ("classes.txt", "obj.names", "classes.names", "names.txt")
"""Files, in any case, that name the classes of YOLO's labels, one a line."""
NO_LABELS = (*NAMES_FILES, "labels.txt", "readme.txt", "requirements.txt")
"""Text files, in any case, that are no labels of a field."""


CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"), ("minx", "miny", "maxx", "maxy"),
)  # fmt: skip
CENTRES = (
    ("xcenter", "ycenter"), ("xcentre", "ycentre"), ("centerx", "centery"), ("centrex", "centrey"), ("cx", "cy"),
    ("xc", "yc"),
)  # fmt: skip
STARTS = (("xmin", "ymin"), ("left", "top"), ("bboxx", "bboxy"), ("boxx", "boxy"))
SIZES = (("width", "height"), ("w", "h"), ("bboxwidth", "bboxheight"), ("bboxw", "bboxh"), ("boxwidth", "boxheight"))
"""Names of a table's columns, in small letters and digits alone; `bbox` and `box` before the corners do not count."""


def annotations_below(data: Path) -> tuple[Form | None, list[Path]]:
    """Return how the boxes of a file or folder are written down, and the files that hold them, in order of name.

    A folder that holds several forms counts as YOLO where a YAML file names the classes, otherwise as the first of
    Pascal VOC, COCO and YOLO.
    """
    if data.is_file() and data.suffix.lower() == ".json":
        return "coco", [data]
    folder = data if data.is_dir() else data.parent
    names = list(files_below(folder))
    stems = {os.path.splitext(name)[0] for name in names if is_image(os.path.basename(name))}
    found: dict[Form, list[Path]] = {"voc": [], "coco": [], "yolo": []}
    for name in names:
        above, base = os.path.split(name.lower())
        held = bool({*above.split("/"), folder.name.lower()} & set(LABEL_FOLDERS))
        if base.endswith(".xml"):
            found["voc"].append(folder / name)
        elif base.endswith(".json") and (held or "coco" in base or base.startswith("instances_")):
            found["coco"].append(folder / name)
        elif base.endswith(".txt") and base not in NO_LABELS and (held or os.path.splitext(name)[0] in stems):
            found["yolo"].append(folder / name)
    if found["voc"] and not _begins(found["voc"][0], b"<annotation"):
        found["voc"] = []
    found["coco"] = [path for path in found["coco"] if _begins(path, b'"annotations"', whole=True)]
    if data.is_file() or (found["yolo"] and names_classes(folder)):
        return "yolo", found["yolo"]
    return next(((form, files) for form, files in found.items() if files), (None, []))


def _begins(path: Path, word: bytes, whole: bool = False) -> bool:
    """Return whether the first kilobyte of a file, or all of it, holds a word."""
    try:
        with path.open("rb") as stream:
            return word in stream.read(-1 if whole else 1000)
    except OSError:
        return False


def names_classes(folder: Path) -> bool:
    """Return whether a YAML file in the folder has the key `names` at its top, as YOLO's data.yaml has."""
    files = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return any(line.startswith("names:") for file in files for line in read_text(file).splitlines())


def is_surely_annotated(folder: Path, files: list[Path]) -> bool:
    """Return whether a folder with annotations `files` holds fields, also where it has the form of class folders.

    It does where folders or files are named as of annotations, or half of the images have a file of their own.
    """
    images = sum(is_image(os.path.basename(name)) for name in files_below(folder))
    above = {part.lower() for file in files for part in (folder.name, *file.relative_to(folder).parts[:-1])}
    named = bool(above & set(LABEL_FOLDERS)) or any("coco" in file.name.lower() for file in files)
    return named or names_classes(folder) or 2 * len(files) >= images


def shards_of(data: Path) -> list[Path]:
    """Return the Parquet files of a file, a folder, or a pattern such as `shards/train-*.parquet`, in order of name.

    Of a folder those that hold images, or all of WBCBench's release; none where it holds images as files, whose lists
    its Parquet files are.
    """
    if data.is_file():
        return [data]
    if not data.is_dir():
        return sorted(file for file in data.parent.glob(data.name) if file.name.lower().endswith(PARQUET))
    names = list(files_below(data))
    if any(is_image(os.path.basename(name)) for name in names):
        return []
    found = sorted(data / name for name in names if name.lower().endswith(PARQUET) and not is_clutter(name))
    return found if is_release(data, found) else [path for path in found if holds_images(path)]


def is_release(data: Path, shards: list[Path]) -> bool:
    """Return whether Parquet files are WBCBench's full release, or one of its parts."""
    return bool({data.name, *(shard.parent.name for shard in shards)} & set(HUB_PARTS))


def holds_images(path: Path) -> bool:
    """Return whether a Parquet file has a column of images: bytes, or a struct with a field `bytes`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return any(is_image_type(field.type) for field in pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError):
        return False


def is_image_type(kind: object) -> bool:
    """Return whether an Arrow type is that of encoded images."""
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def columns_of_boxes(header: Iterable[object]) -> tuple[str, list[str]] | None:
    """Return `corners`, `centres` or `starts` and the four columns of a table's boxes; None where it has none."""
    by_name = {_plain(name): str(name) for name in header}
    by_name = {**{re.sub(r"^b?box(?=.*(min|max|left|top|right|bottom|[xy]\d|center|centre))", "", key): name
                  for key, name in by_name.items()}, **by_name}  # fmt: skip
    choices = [("corners", names) for names in CORNERS]
    choices += [(kind, (*start, *size)) for kind, starts in (("centres", CENTRES), ("starts", STARTS))
                for start in starts for size in SIZES]  # fmt: skip
    for kind, names in choices:
        if all(name in by_name for name in names):
            return kind, [by_name[name] for name in names]
    return None


def table_has_boxes(path: Path) -> bool:
    """Return whether a table's columns are those of boxes; False where it cannot be read: its step says why."""
    try:
        if path.name.lower().endswith(PARQUET):
            import pyarrow.parquet as pq

            return columns_of_boxes(pq.read_schema(path).names) is not None
        return columns_of_boxes(read_rows(path).header) is not None
    except Exception:  # Arrow raises whatever it stumbles on in a damaged file.
        return False
