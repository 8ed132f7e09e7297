"""The user's data set: images, classes, folds, and the labels of test images."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

IMAGES = Table(
    name="images",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("path", pa.string(), "the file, openable from the working directory"),
        Column("role", pa.string(), "'train' (may be learned from) or 'test'"),
        Column("split", pa.string(), "the source's own name of the part, kept for reports", gaps=True),
        Column("width", pa.int32(), "pixels, of the whole field; null where it could not be decoded", gaps=True),
        Column("height", pa.int32(), "pixels, of the whole field; null where it could not be decoded", gaps=True),
        Column(
            "sha256",
            pa.string(),
            "of the image's bytes, encoded as they are in the file or row; null where they could not be read",
            gaps=True,
        ),
        Column(
            "in_column", pa.string(), "column of a Parquet file that holds images; null: the file is one", gaps=True
        ),
        Column("in_row", pa.int64(), "row in that column, from 0; null: the file is the image", gaps=True),
        Column("left", pa.float64(), "left side of the cell's box in the field, pixels; null: no box", gaps=True),
        Column("top", pa.float64(), "upper side of the box, pixels", gaps=True),
        Column("right", pa.float64(), "right side of the box, pixels", gaps=True),
        Column("bottom", pa.float64(), "lower side of the box, pixels", gaps=True),
        Column("severity", pa.string(), "how badly the image is degraded, in the source's words", gaps=True),
        Column("original", pa.string(), "image_id of the clean form of a degraded image, if known", gaps=True),
        Column("status", pa.string(), "'ok' or why the file cannot be used; see FILE_STATUSES"),
        Column("reason", pa.string(), "one sentence for a person; empty where the status is 'ok'"),
    ),
)

BOX = ("left", "top", "right", "bottom")
"""The columns of a cell's box in its field."""
PLACES = ("in_column", "in_row", *BOX, "severity", "original")
"""The columns that are null where a row is one image file, whole, and its source says no more of it."""
FILE_STATUSES = ("ok", "missing", "not_an_image", "truncated", "too_large", "unreadable", "bad_box")
"""Every status of a file; only an image that is 'ok' has pixels, and so is cropped and predicted."""


PIXELS = Table(
    name="pixels",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column(
            "digest",
            pa.string(),
            "of the decoded pixels and their size (BLAKE2b, 32 hexadecimal digits): the same in every lossless format;"
            " null where there are none",
            gaps=True,
        ),
        Column("grey", pa.bool_(), "whether the image has no colour; null where there are no pixels", gaps=True),
        Column(
            "note",
            pa.string(),
            "what was not plain and how it became 8-bit RGB: depth, pages, transparency, a background of one colour;"
            " empty for most images",
        ),
        Column(
            "near_copy_of",
            pa.string(),
            "image_id of the first image in the list that shows the same picture, saved, resized, shifted a little or"
            " turned; null for that first one, and where there is none",
            gaps=True,
        ),
    ),
)


def with_places(images: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with all columns of PLACES; those that are missing are null: the rows are whole files."""
    return images.assign(**{name: None for name in PLACES if name not in images})


def decodable(images: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have pixels: they pass through every later stage."""
    return images[images["status"] == "ok"].reset_index(drop=True)


LABELS = Table(
    name="labels",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("label", pa.string(), "class code given by an expert; null in test and where none is given", gaps=True),
        Column(
            "group",
            pa.string(),
            "patient, or other unit that must not be divided between folds; null where unknown",
            gaps=True,
        ),
        Column("status", pa.string(), "'ok' or why the image is not learned from; see LABEL_STATUSES"),
        Column("reason", pa.string(), "one sentence for a person; empty where the status is 'ok'"),
    ),
)

LABEL_STATUSES = (
    "ok", "unlabelled", "left_out", "unknown_class", "duplicate", "conflicting_duplicate", "duplicate_of_test",
    "patient_in_test", *FILE_STATUSES[1:],
)  # fmt: skip
"""Every status of a label; the status of the file, where that is not 'ok', goes first."""


CLASSES = Table(
    name="classes",
    key=("code",),
    columns=(
        Column("code", pa.string(), "class code"),
        Column("name", pa.string(), "full name"),
        Column("position", pa.int32(), "order of the class in every table, from 0"),
        Column("images", pa.int32(), "trainable images of the class"),
        Column("groups", pa.int32(), "groups (patients) that hold it; null where groups are unknown", gaps=True),
    ),
)


def class_codes(classes: pd.DataFrame) -> list[str]:
    """Return the class codes in their order."""
    return [str(code) for code in classes.sort_values("position")["code"]]


FOLDS = Table(
    name="folds",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("fold", pa.int32(), "the fold that holds this image out, from 0"),
    ),
)

TEST_LABELS = Table(
    name="test_labels",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("label", pa.string(), "class code of a test image"),
    ),
)
