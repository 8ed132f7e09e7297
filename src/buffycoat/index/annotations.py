"""Boxes on fields as annotation tools store them: Pascal VOC, YOLO and COCO. No heavy imports; labels as they stand."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

from buffycoat.core.errors import InputError
from buffycoat.core.files import read_yaml
from buffycoat.index.forms import LABEL_FOLDERS, NAMES_FILES, annotations_below
from buffycoat.index.places import files_below, is_image
from buffycoat.index.rows import read_text
from buffycoat.index.words import part_of

IMAGE_FOLDERS = ("images", "jpegimages", "img", "imgs", "image")
"""Folders, in any case, of fields whose annotations lie in a folder beside them."""
Corners = tuple[float, float, float, float]
"""Left, top, right and bottom of a box."""
Images = dict[str, list[Path]]
"""Files of images by name, and by name without suffix, both in small letters."""


class Box(NamedTuple):
    """One box. `number` counts all boxes of its field from 1, `place` names the line or object for messages.

    `field` is the field's name, from the folder of the data on, `file` the image's path. `box` is in pixels or, where
    `relative`, in shares of the field's width and height. `size` is the width and height of the field as the annotation
    has them, None where it says nothing.
    """

    field: str
    file: str
    number: int
    place: str
    label: str | None
    split: str | None
    box: Corners
    relative: bool = False
    size: tuple[int, int] | None = None
    group: str | None = None


class Annotations(NamedTuple):
    """All boxes of a data set, those of a field together, and the names of fields without one."""

    boxes: list[Box]
    empty: list[str]


def read_annotations(data: Path, root: Path | None = None) -> Annotations:
    """Return the boxes of `data`; fields are looked for beside the annotations, or below `root`.

    Raises InputError naming file and line or object where an annotation cannot be read.
    """
    form, files = annotations_below(data)
    folder = data if data.is_dir() else data.parent
    images = _images_below(root or _folder_with_images(folder))
    if form == "voc":
        return _read_voc(folder, files, images)
    return _read_coco(folder, files, images, root) if form == "coco" else _read_yolo(data, files, images)


def numbers(texts: Sequence[Any], place: str) -> list[float]:
    """Return texts as finite numbers, also with decimal commas; raises InputError at any other."""
    try:
        values = [float(text.replace(",", ".") if isinstance(text, str) else text) for text in texts]
    except (TypeError, ValueError):
        raise InputError(f"{place}: not all of {', '.join(map(str, texts))} are numbers") from None
    if not all(abs(value) < 1e9 for value in values):
        raise InputError(f"{place}: not all of {', '.join(map(str, texts))} are finite numbers")
    return values


def _bare(path: PurePosixPath) -> str:
    """Return a path without folders that only say what kind of file is in them, such as Annotations/."""
    kept = [part for part in path.parts[:-1] if part.lower() not in (*IMAGE_FOLDERS, *LABEL_FOLDERS)]
    return PurePosixPath(*kept, path.name).as_posix()


def _split_of(names: Sequence[str]) -> str | None:
    """Return the first of the names that is one of a part of the data, None where none is."""
    return next((name for name in names if part_of(name)), None)


def _images_below(folder: Path) -> Images:
    found: Images = defaultdict(list)
    for name in files_below(folder):
        base = os.path.basename(name).lower()
        if is_image(base):
            found[base].append(folder / name)
            found[os.path.splitext(base)[0]].append(folder / name)
    return found


def _folder_with_images(folder: Path) -> Path:
    """Return the folder of the data, or the one above it where annotations alone lie in it."""
    if folder.name.lower() in LABEL_FOLDERS and not any(map(is_image, map(os.path.basename, files_below(folder)))):
        return folder.absolute().parent
    return folder


def _base(name: str) -> str:
    """Return the last part of a path, whatever system wrote it."""
    return re.split(r"[\\/]", name)[-1]


def _field_of(names: Sequence[str], images: Images, start: Path) -> Path | None:
    """Return the image that the first of the names finds, with another suffix at last, the nearest to `start`."""
    bases = [_base(name).lower() for name in names]
    for base in [*bases, *(os.path.splitext(base)[0] for base in bases)]:
        if images.get(base):
            here = str(start.absolute())
            return max(images[base], key=lambda path: len(os.path.commonpath([path.absolute(), here])))
    return None


# Pascal VOC: an XML file per field.


def _text(node: ElementTree.Element, path: str) -> str | None:
    return (node.findtext(path) or "").strip() or None


def _lists_of_splits(folder: Path) -> dict[str, str]:
    """Return the part of each field that ImageSets/ names, test before others, by name without suffix."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("**/ImageSets/**/*.txt")):
        if part := part_of(path.stem):
            for line in read_text(path).splitlines():
                for name in line.split()[:1]:
                    found[name] = path.stem if part == "test" else found.get(name, path.stem)
    return found


def _read_voc(folder: Path, files: list[Path], images: Images) -> Annotations:
    splits = _lists_of_splits(folder)
    boxes: list[Box] = []
    empty = []
    for path in files:
        try:
            tree = ElementTree.fromstring(path.read_bytes())
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as problem:
            raise InputError(f"{path}: not a readable Pascal VOC annotation ({problem})") from None
        if tree.tag != "annotation":
            raise InputError(f"{path}: its outermost element is {tree.tag!r}, not 'annotation' as Pascal VOC has it")
        inner = PurePosixPath(path.relative_to(folder).as_posix())
        split = splits.get(path.stem) or _split_of(inner.parts[:-1])
        found = _voc_boxes(tree, path, inner, images)
        boxes += [box._replace(split=split) for box in found]
        empty += [] if found else [str(inner)]
    return Annotations(boxes, empty)


def _voc_boxes(tree: ElementTree.Element, path: Path, inner: PurePosixPath, images: Images) -> list[Box]:
    """Return the boxes of one file; `inner` is its path from the folder of the data on."""
    named = _base(_text(tree, "filename") or path.stem)
    field = _bare(inner.with_name(path.stem + (os.path.splitext(named)[1] if is_image(named) else ".jpg")))
    file = str(_field_of([named, path.stem], images, path) or path.with_name(named))
    sides = numbers([_text(tree, f"size/{side}") or 0 for side in ("width", "height")], f"{path}: size")
    size = (round(sides[0]), round(sides[1])) if min(sides) > 0 else None
    boxes = []
    for number, thing in enumerate(tree.iter("object"), start=1):
        place = f"{path}: object {number}"
        corners = [_text(thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        if None in corners:
            raise InputError(f"{place}: no bndbox with xmin, ymin, xmax and ymax; give it one, or remove the object")
        left, top, right, bottom = numbers(corners, place)
        label = _text(thing, "name")
        boxes.append(Box(field, file, number, place, label, None, (left, top, right, bottom), False, size))
    return boxes


# COCO: a JSON file of many fields.


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as problem:
        raise InputError(f"{path}: not valid JSON ({problem})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{path}: no list {key!r}: a COCO file holds images, annotations and categories")
    return dict(content)


def _by_id(content: dict[str, Any], key: str, named: str, path: Path) -> dict[Any, dict[str, Any]]:
    for entry in content[key]:
        known = isinstance(entry, dict) and isinstance(entry.get("id"), (int, str))
        if not known or not isinstance(entry.get(named), str):
            raise InputError(f"{path}: an entry of {key!r} has no id or no {named}: {str(entry)[:80]}")
    return {entry["id"]: entry for entry in content[key]}


def _read_coco(folder: Path, files: list[Path], images: Images, root: Path | None) -> Annotations:
    boxes: list[Box] = []
    empty: list[str] = []
    for path in files:
        content = _read_json(path)
        fields = {
            key: _coco_field(entry, path, folder, images, root)
            for key, entry in _by_id(content, "images", "file_name", path).items()
        }
        names = {key: entry["name"].strip() for key, entry in _by_id(content, "categories", "name", path).items()}
        words = re.split(r"[\W_]+", path.stem)
        split = _split_of([*path.relative_to(folder).parts[:-1], *words])
        found = [box._replace(split=split) for box in _coco_boxes(content["annotations"], fields, names, path)]
        boxes += found
        with_boxes = {box.field for box in found}
        empty += [field for field, *_ in fields.values() if field not in with_boxes]
    order = {field: place for place, field in enumerate(dict.fromkeys(box.field for box in boxes))}
    return Annotations(sorted(boxes, key=lambda box: order[box.field]), empty)


def _coco_boxes(
    entries: list[Any], fields: dict[Any, tuple[str, str, tuple[int, int] | None]], names: dict[Any, str], path: Path
) -> list[Box]:
    counts: Counter[Any] = Counter()
    boxes = []
    for order, entry in enumerate(entries, start=1):
        place = f"{path}: annotation {entry.get('id', order) if isinstance(entry, dict) else order}"
        if not isinstance(entry, dict) or entry.get("image_id") not in fields or entry.get("category_id") not in names:
            raise InputError(f"{place}: its image_id or category_id is none of those that the file lists")
        bbox = entry.get("bbox")
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise InputError(f"{place}: no bbox of four numbers (left, top, width, height)")
        left, top, width, height = numbers(bbox, place)
        counts[entry["image_id"]] += 1
        field, file, size = fields[entry["image_id"]]
        corners = (left, top, left + width, top + height)
        label = names[entry["category_id"]] or None
        boxes.append(Box(field, file, counts[entry["image_id"]], place, label, None, corners, False, size))
    return boxes


def _coco_field(
    entry: dict[str, Any], path: Path, folder: Path, images: Images, root: Path | None
) -> tuple[str, str, tuple[int, int] | None]:
    """Return a field's name, its file and its size."""
    named = entry["file_name"].replace("\\", "/")
    beside = [(root or path.parent) / named, path.parent / "images" / named, path.parent.parent / "images" / named]
    found = next((place for place in beside if place.is_file()), None) or _field_of([named], images, path)
    inner = PurePosixPath(path.relative_to(folder).as_posix()).parent
    size = numbers([entry.get("width") or 0, entry.get("height") or 0], str(path))
    known = (round(size[0]), round(size[1])) if min(size) > 0 else None
    return _bare(inner / named.lstrip("/")), str(found or beside[0]), known


# YOLO: a text file per field, shares of its width and height.


def class_names(data: Path) -> tuple[dict[int, str], str, list[Path]]:
    """Return YOLO's names of classes by number, the file that gives them, and the places that it names for testing."""
    folder = data if data.is_dir() else data.parent
    for path in [data] if data.is_file() else [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))]:
        content = read_yaml(path)
        names = content.get("names")
        given = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
        if given:
            keys = numbers(list(given), f"{path}: names")
            named = {int(key): str(name).strip() for key, name in zip(keys, given.values(), strict=True)}
            return named, str(path), _test_places(content, path)
    for path in (folder / name for name in files_below(folder)):
        if path.name.lower() in NAMES_FILES:
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            return dict(enumerate(lines)), str(path), []
    raise InputError(
        f"data: {data}: labels of YOLO, but no names of the classes; put data.yaml (`names: [...]`) or classes.txt in"
    )


def _test_places(content: dict[str, Any], path: Path) -> list[Path]:
    """Return the places that data.yaml names for testing; none that it names for training too."""
    start = path.parent / str(content.get("path") or "")

    def places(key: str) -> list[Path]:
        value = content.get(key) or []
        return [place(str(item)) for item in (value if isinstance(value, list) else [value])]

    def place(name: str) -> Path:
        # Tools write ../test/images where test/images is meant.
        beside = (start / name, path.parent / name, path.parent / re.sub(r"^(\.\./)+", "", name))
        return next((there for there in beside if there.exists()), beside[0]).resolve()

    taught = {*places("train"), *places("val")}
    return [there for there in places("test") if there not in taught]


def _is_test(image: Path, places: list[Path]) -> bool:
    for place in places:
        if place.suffix == ".txt" and place.is_file():
            if image.name in {_base(line.strip()) for line in read_text(place).splitlines()}:
                return True
        elif image.resolve().is_relative_to(place):
            return True
    return False


def _read_yolo(data: Path, files: list[Path], images: Images) -> Annotations:
    folder = data if data.is_dir() else data.parent
    names, named_by, tests = class_names(data)
    boxes: list[Box] = []
    empty: list[str] = []
    seen = set()
    for path in files:
        inner = PurePosixPath(path.relative_to(folder).as_posix())
        start = _parallel(path, folder)
        image = _field_of([path.stem], images, start) or start.with_suffix(".jpg")
        seen.add(image)
        field = _bare(inner.with_suffix(""))
        split = "test" if _is_test(image, tests) else _split_of(inner.parts[:-1])
        found = _yolo_boxes(path, names, named_by)
        boxes += [box._replace(field=field, file=str(image), split=split) for box in found]
        empty += [] if found else [field]
    others = sorted({str(image) for found in images.values() for image in found} - {str(image) for image in seen})
    return Annotations(boxes, [*empty, *others])


def _yolo_boxes(path: Path, names: dict[int, str], named_by: str) -> list[Box]:
    """Return the boxes of one file, without their field."""
    boxes: list[Box] = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        texts = text.split()
        if not texts:
            continue
        place = f"{path}: line {line}"
        values = numbers(texts, place)
        if values[0] not in names:
            raise InputError(f"{place}: class {texts[0]}, but {named_by} names {', '.join(map(str, names))} alone")
        box = _extent(values, place)
        boxes.append(Box("", "", len(boxes) + 1, place, names[int(values[0])] or None, None, box, True))
    return boxes


def _parallel(path: Path, folder: Path) -> Path:
    """Return where the field of a label file lies, if folders of fields and of labels stand side by side."""
    parts = list(path.parts)
    for place in range(len(parts) - 2, len(folder.parts) - 1, -1):
        if parts[place].lower() in LABEL_FOLDERS:
            parts[place] = "images"
            break
    return Path(*parts)


def _extent(values: list[float], place: str) -> Corners:
    """Return the corners of a YOLO line's box (centre, width, height; confidence) or of its outline of points."""
    if len(values) in (5, 6):
        x, y, width, height = values[1:5]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 7 or len(values) % 2 == 0:
        raise InputError(f"{place}: {len(values)} numbers; a line holds class, x, y, width and height, or an outline")
    return min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])
