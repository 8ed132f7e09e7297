"""What a table is: named columns with Arrow types, a key, and reading and writing that refuse anything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from buffycoat.core.errors import InputError
from buffycoat.core.files import OPEN_SEAL, close_seal, is_whole, whole_file

PARQUET = b"PAR1"
"""The first bytes of every Parquet file."""


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, what it means (with the unit), and whether gaps are allowed."""

    name: str
    type: pa.DataType
    meaning: str
    gaps: bool = False


IMAGE_ID = Column("image_id", pa.string(), "the image's name, unique in the data set")
SHARD_PLACE = (
    Column("shard", pa.string(), "image shard, as a path relative to this table's folder"),
    Column("shard_row", pa.int32(), "row of the cell in its shard, from 0"),
    Column("crc32", pa.int64(), "CRC-32 of the crop's bytes followed by the mask's; finds a damaged or replaced shard"),
)
"""Where a table of cells has its pixels."""


@dataclass(frozen=True)
class Table:
    """A kind of table: `key` identifies a row; `classes` is the type of one column per class, if it has them.

    With `others` columns that are not declared may stand beside: a user's own. Arrow finds their types, and what it
    finds none for is stored as text.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    classes: pa.DataType | None = None
    others: bool = False

    def class_columns(self, names: list[str]) -> list[str]:
        """Return the names that are classes: those that the table does not itself declare, in order."""
        declared = {column.name for column in self.columns}
        return [name for name in names if name not in declared]

    def schema(self, names: list[str]) -> pa.Schema:
        """Return the Arrow schema; `names` are the frame's columns, from which class columns are taken."""
        fields = [pa.field(column.name, column.type, nullable=column.gaps) for column in self.columns]
        if self.classes is not None:
            fields += [pa.field(name, self.classes, nullable=False) for name in self.class_columns(names)]
        return pa.schema(fields, metadata={"buffycoat.table": self.name, "buffycoat.seal": OPEN_SEAL})

    def write(self, frame: pd.DataFrame, path: Path) -> None:
        """Check `frame` and write it whole as Parquet; raises InputError on missing columns, gaps or repeated keys."""
        table = self._to_arrow(frame, str(path))
        with whole_file(path) as partial:
            pq.write_table(table, partial, compression="zstd")
            close_seal(partial)

    def cast(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return `frame` as `write` and `read` would return it, bit for bit, without a file.

        Columns have the table's order and types, so numbers are rounded as the stored ones are. Undeclared columns,
        missing columns, gaps and repeated keys raise InputError, as in `write`.
        """
        rounded: pd.DataFrame = self._to_arrow(frame, "in memory").to_pandas()
        return rounded

    def read(self, path: Path) -> pd.DataFrame:
        """Read a table of this kind; raises InputError where the file is missing, damaged or another kind."""
        _require_whole(path)
        table = pq.read_table(path)
        kind = (table.schema.metadata or {}).get(b"buffycoat.table", b"").decode()
        if kind != self.name:
            raise InputError(f"{path}: expected the table '{self.name}', found '{kind}'")
        self._check_columns(table.schema.names, str(path))
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def _to_arrow(self, frame: pd.DataFrame, place: str) -> pa.Table:
        """Return the checked rows of `frame` as an Arrow table; `place` begins the message of an error."""
        names = [str(name) for name in frame.columns]
        self._check_columns(names, place)
        schema = self.schema(names)
        self._check_rows(frame, place)
        try:
            table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False, safe=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as problem:
            raise InputError(f"{place}: table '{self.name}': {problem}") from problem
        for name in self.class_columns(names) if self.others else []:
            table = table.append_column(name, _stored(frame[name]))
        return table

    def _check_columns(self, names: list[str], place: str) -> None:
        missing = [column.name for column in self.columns if column.name not in names]
        if missing:
            raise InputError(f"{place}: table '{self.name}' lacks the columns {missing}")
        surplus = self.class_columns(names)
        if self.classes is None and surplus and not self.others:
            raise InputError(f"{place}: table '{self.name}' has undeclared columns {surplus}")
        if self.classes is not None and not surplus:
            raise InputError(f"{place}: table '{self.name}' has no class columns")

    def _check_rows(self, frame: pd.DataFrame, place: str) -> None:
        full = [column.name for column in self.columns if not column.gaps]
        if self.classes is not None:
            full += self.class_columns([str(name) for name in frame.columns])
        for name in full:
            holes = frame[name].isna()
            if holes.any():
                example = frame.loc[holes, list(self.key)].iloc[0].to_dict()
                raise InputError(f"{place}: table '{self.name}': column '{name}' has gaps, first at {example}")
        twice = frame.duplicated(list(self.key))
        if twice.any():
            example = frame.loc[twice, list(self.key)].iloc[0].to_dict()
            raise InputError(f"{place}: table '{self.name}': the key {example} appears more than once")


def _stored(column: pd.Series) -> pa.Array:
    """Return a user's column as Arrow stores it, and as text where it knows no type for it."""
    try:
        found = pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError, UnicodeError):
        texts = [None if value is None else str(value) for value in column]
        found = pa.array([text and text.encode("utf-8", "backslashreplace").decode() for text in texts])
    return found.cast(pa.string()) if pa.types.is_null(found.type) else found


def _require_whole(path: Path) -> None:
    """Raise InputError unless the file is, byte for byte, one that `Table.write` wrote."""
    try:
        whole = is_whole(path)
        with path.open("rb") as stream:
            head = stream.read(len(PARQUET))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read ({problem.strerror})") from None
    if whole:
        return
    if whole is None and head == PARQUET:
        raise InputError(f"{path}: no table of this version, but a foreign Parquet file or a damaged table")
    raise InputError(f"{path}: damaged table: its bytes are not those that were written; delete it and run again")


def require_same_keys(found: pd.Series, expected: pd.Series, what: str) -> None:
    """Raise InputError unless both hold the same keys: no row may be lost or invented between stages."""
    lost, invented = set(expected) - set(found), set(found) - set(expected)
    if lost or invented:
        example = sorted(lost or invented)[0]
        raise InputError(f"{what}: {len(lost)} rows lost, {len(invented)} invented, for instance {example!r}")
