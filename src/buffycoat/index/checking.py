"""Faults of the data: of each file, of labels, of repeated files; every fault is a status."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from buffycoat.core.progress import Progress
from buffycoat.data.images import ImageProblem, decode_bytes
from buffycoat.data.tables.index import STATUSES


@dataclass(frozen=True)
class Finding:
    """What was found out about one file; sizes in pixels, None where there are none."""

    status: str = "ok"
    reason: str = ""
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


def inside_root(name: str, root: Path) -> bool:
    """Return whether `name`, with every link followed, is a path below `root`."""
    if "\x00" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        return False
    real_root = os.path.realpath(root)
    return os.path.realpath(root / name).startswith(real_root.rstrip(os.sep) + os.sep)


def check_file(name: str, root: Path, max_pixels: int, max_bytes: float) -> Finding:
    """Return what there is to know about file `name` below `root`; never raises for a fault of the file."""
    if not inside_root(name, root):
        return Finding("outside_root", f"the path leaves the folder {root}; list files below it only")
    path = root / name
    try:
        if not path.is_file():
            return Finding("missing", "no such file" if not path.exists() else "not a file")
        size = path.stat().st_size
        if size > max_bytes:
            return Finding("too_large", f"{size / 1e6:.0f} MB; the limit is index.make_index.max_megabytes")
        data = path.read_bytes()
    except OSError as problem:
        return Finding("unreadable", f"the file cannot be read: {problem.strerror}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_bytes(data, max_pixels)
    except ImageProblem as problem:
        return Finding(problem.status, str(problem), sha256=digest)
    return Finding(width=pixels.shape[1], height=pixels.shape[0], sha256=digest)


def check_files(names: list[str], root: Path, max_pixels: int, max_bytes: float, threads: int) -> list[Finding]:
    """Return the findings of all files in order; the same whatever the number of threads."""
    progress = Progress("make_index", len(names))

    def check(name: str) -> Finding:
        return check_file(name, root, max_pixels, max_bytes)

    findings = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for finding in pool.map(check, names, chunksize=16):
            findings.append(finding)
            progress.step()
    return findings


def mark_labels(frame: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the frame with training rows marked `unlabelled` or `unknown_class` where they are; files go first."""
    frame = frame.copy()
    sound = (frame["status"] == "ok") & (frame["role"] == "train")
    empty = sound & frame["label"].isna()
    frame.loc[empty, ["status", "reason"]] = ["unlabelled", "a training row without a label; predicted, not learned"]
    strange = sound & ~frame["label"].isin(codes) & ~empty
    frame.loc[strange, "status"] = "unknown_class"
    frame.loc[strange, "reason"] = [
        f"label {label!r} is not one of {', '.join(codes)}; see index.make_index.classes and label_aliases"
        for label in frame.loc[strange, "label"]
    ]
    return frame


def mark_duplicates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with repeated files marked, so that no image teaches twice or stands on both sides.

    Among training rows of one file: with one label the first stays `ok` and the others are `duplicate`; with several
    labels all are `conflicting_duplicate`. A training row whose file is also a test image is `duplicate_of_test`; the
    test row stays as it is, for it must get its answer.
    """
    frame = frame.copy()
    teaches = (frame["role"] == "train") & (frame["status"] == "ok")
    tested = set(frame.loc[(frame["role"] == "test") & frame["sha256"].notna(), "sha256"])
    test_name = dict(
        frame.loc[(frame["role"] == "test") & frame["sha256"].notna(), ["sha256", "image_id"]]
        .drop_duplicates("sha256")
        .itertuples(index=False, name=None)
    )
    leaked = teaches & frame["sha256"].isin(tested)
    frame.loc[leaked, "status"] = "duplicate_of_test"
    frame.loc[leaked, "reason"] = [
        f"the same file as the test image {test_name[s]}" for s in frame.loc[leaked, "sha256"]
    ]
    rest = frame[teaches & ~leaked]
    for _, same in rest[rest.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        if same["label"].nunique() > 1:
            frame.loc[same.index, "status"] = "conflicting_duplicate"
            frame.loc[same.index, "reason"] = f"one file with the labels {', '.join(sorted(set(same['label'])))}"
        else:
            frame.loc[same.index[1:], "status"] = "duplicate"
            frame.loc[same.index[1:], "reason"] = f"the same file as {same['image_id'].iloc[0]}"
    return frame


def warnings_of(frame: pd.DataFrame, codes: list[str]) -> list[str]:
    """Return sentences on what will hurt later: classes with one image or one group, and none at all."""
    usable = frame[(frame["role"] == "train") & (frame["status"] == "ok")]
    said = []
    for code in codes:
        of_class = usable[usable["label"] == code]
        if len(of_class) == 0:
            said.append(f"class {code} has no training image: it can never be predicted, and counts 0 in macro-F1")
        elif len(of_class) == 1:
            said.append(f"class {code} has one training image: no fold both learns and tests it")
        elif of_class["group"].notna().all() and of_class["group"].nunique() == 1:
            said.append(f"class {code} comes from one group only: no fold both learns and tests it")
    return said


def summary_of(frame: pd.DataFrame, codes: list[str], examples: int = 3) -> dict[str, object]:
    """Return counts per status, per class and per role, the first examples of each fault, and warnings."""
    counts = {status: int((frame["status"] == status).sum()) for status in STATUSES}
    usable = frame[(frame["role"] == "train") & (frame["status"] == "ok")]
    return {
        "images": len(frame),
        "roles": {role: int((frame["role"] == role).sum()) for role in ("train", "test")},
        "statuses": {status: count for status, count in counts.items() if count},
        "trainable": len(usable),
        "groups": None if usable["group"].isna().any() or usable.empty else int(usable["group"].nunique()),
        "classes": {code: int((usable["label"] == code).sum()) for code in codes},
        "examples": {
            status: [
                {"image_id": row.image_id, "reason": row.reason}
                for row in frame[frame["status"] == status].head(examples).itertuples()
            ]
            for status, count in counts.items()
            if count and status != "ok"
        },
        "warnings": warnings_of(frame, codes),
    }
