"""Anything at all as a list, a configuration, a table or weights: a valid result or an InputError, nothing else."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from buffycoat.config import Config, check_run, settings_json
from buffycoat.core.errors import InputError
from buffycoat.core.files import OPEN_SEAL, close_seal
from buffycoat.core.steps import _parse_settings
from buffycoat.crop.segmenter_samples import read_mask_set
from buffycoat.data.images import ImageProblem, decode_bytes
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.index import IMAGES
from buffycoat.index.settings import Columns, MakeIndex
from buffycoat.index.sources import Listing, read_listing
from buffycoat.nets.weights import read_weights, write_weights

LONG = st.sampled_from(["x" * 5000, "a/" * 3000, "a\0b", "."])
"""What no file can be called, or what is a folder."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | LONG,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
"""What a YAML file may hold."""


def places_of(content: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the way to every setting, and to every section."""
    if not isinstance(content, dict):
        return [path]
    return [path] * bool(path) + [place for key, value in content.items() for place in places_of(value, (*path, key))]


DEFAULTS = Config().model_dump(mode="json")
PLACES = places_of(DEFAULTS)


def changed_bytes(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return strategies of files like `whole`: some bytes set, a piece cut out, or cut short."""
    places = st.integers(0, len(whole) - 1)

    def with_changes(changes: list[tuple[int, int]], cut: tuple[int, int] | None) -> bytes:
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        return bytes(content) if cut is None else bytes(content[: min(cut)] + content[max(cut) :])

    return st.builds(
        with_changes, st.lists(st.tuples(places, st.integers(0, 255)), max_size=6),
        st.none() | st.tuples(places, places | st.just(len(whole))),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def one_line(reading: Callable[[], Any]) -> Any:
    """Return what is read, or None where it is refused in words that name what to mend."""
    try:
        return reading()
    except InputError as problem:
        assert str(problem)
        return None


CSV = 'image,label,split,group\r\na b.png,SNE,train,p1\r\n"c,""d"".png",LY,test,\r\nÄ.png,,,\r\n'


@given(
    st.binary(max_size=120)
    | st.text("\"',;\n\r\t\0 image,label=ü\ufeff", max_size=80).map(lambda text: ("image,label\n" + text).encode())
    | changed_bytes(CSV.encode("utf-8-sig"))
    | changed_bytes(CSV.encode("utf-16"))
)
def test_any_bytes_as_a_csv(folder: Path, content: bytes) -> None:
    path = folder / "list.csv"
    path.write_bytes(content)
    found = one_line(lambda: read_listing(str(path), Columns(), MakeIndex()))
    if isinstance(found, Listing):
        ids = found.frame["image_id"]
        assert len(ids) and ids.is_unique and (ids != "").all() and ids.map(type).eq(str).all()


PARQUET = io.BytesIO()
pd.DataFrame({"image": ["a.png", "b.png"], "label": ["SNE", None], "group": [1.5, None]}).to_parquet(PARQUET)


@given(st.binary(max_size=60) | changed_bytes(PARQUET.getvalue()))
def test_any_bytes_as_a_parquet_list(folder: Path, content: bytes) -> None:
    path = folder / "list.parquet"
    path.write_bytes(content)
    found = one_line(lambda: read_listing(str(path), Columns(), MakeIndex()))
    assert found is None or len(found.frame)


COLUMNS = st.sampled_from([
    [None], [1], [1.5, None], [True], ["a.png"], ["a.png", None], [b"\xff"], [["a"]], [{"a": 1}], [pd.Timestamp(0)],
    [10**18], [""],
])  # fmt: skip


@given(st.dictionaries(st.sampled_from(["image", "label", "split", "group", "line", "x"]), COLUMNS, max_size=5))
def test_any_columns_in_a_parquet_list(folder: Path, columns: dict[str, list[Any]]) -> None:
    rows = max(map(len, columns.values()), default=0)
    frame = pd.DataFrame({name: (values * rows)[:rows] for name, values in columns.items()})
    path = folder / "columns.parquet"
    frame.to_parquet(path)
    found = one_line(lambda: read_listing(str(path), Columns(), MakeIndex()))
    assert found is None or len(found.frame) == rows


@example(b"image,mask\na\0.png,b.png\n")
@example(b"image,mask\n.,.\n")
@given(st.binary(max_size=80) | changed_bytes(b"image,mask,nucleus_marked\na.png,b.png,1\n"))
def test_any_bytes_as_a_list_of_masks(folder: Path, content: bytes) -> None:
    path = folder / "masks.csv"
    path.write_bytes(content)
    assert one_line(lambda: read_mask_set(path)) is None, "there are no pictures"


@given(st.dictionaries(st.text(max_size=8) | st.integers() | st.sampled_from(list(DEFAULTS)), VALUES, max_size=4))
def test_any_configuration(content: dict[Any, Any]) -> None:
    found = one_line(lambda: check_run({"preset": "demo", **content}))
    assert found is None or isinstance(found, Config)


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_value_in_the_place_of_a_setting(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    content: dict[str, Any] = {}
    for place, value in changes:
        here = content
        for key in place[:-1]:
            inner = here.setdefault(key, {})
            if not isinstance(inner, dict):
                break
            here = inner
        else:
            here[place[-1]] = value
    found = one_line(lambda: check_run({"preset": "demo", **content}))
    if found is not None:
        handed_on = settings_json(found, "index.make_index")
        assert _parse_settings(MakeIndex, "settings", handed_on) == found.index.make_index, "a step gets what was set"


@given(st.text(max_size=30) | VALUES.map(lambda value: json.dumps(value, skipkeys=True)))
def test_any_text_as_a_steps_settings(text: str) -> None:
    found = one_line(lambda: _parse_settings(MakeIndex, "settings", text))
    assert found is None or isinstance(found, MakeIndex)


@pytest.fixture(scope="module")
def whole_table(folder: Path) -> bytes:
    frame = pd.DataFrame({"image_id": ["a", "b"], "source": "test", "SNE": [0.5, 1.0]})
    PROBABILITIES.write(frame[[c.name for c in PROBABILITIES.columns] + ["SNE"]], folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


@given(data=st.data())
def test_any_bytes_as_a_table(folder: Path, whole_table: bytes, data: st.DataObject) -> None:
    path = folder / "table.parquet"
    content = data.draw(st.binary(max_size=60) | changed_bytes(whole_table))
    path.write_bytes(content)
    found = one_line(lambda: PROBABILITIES.read(path))
    assert (found is not None) == (content == whole_table)
    assert one_line(lambda: IMAGES.read(path)) is None


@pytest.fixture(scope="module")
def whole_weights(folder: Path) -> bytes:
    write_weights({"w": torch.arange(3.0)}, {"classes": ["BA"]}, folder / "whole.safetensors")
    return (folder / "whole.safetensors").read_bytes()


@given(data=st.data())
def test_any_bytes_as_weights(folder: Path, whole_weights: bytes, data: st.DataObject) -> None:
    path = folder / "w.safetensors"
    path.write_bytes(data.draw(st.binary(max_size=60) | changed_bytes(whole_weights)))
    found = one_line(lambda: read_weights(path))
    assert found is None or isinstance(found[1], dict)


@given(VALUES | st.fixed_dictionaries({"__metadata__": st.fixed_dictionaries({"buffycoat": VALUES.map(json.dumps)})}))
def test_any_header_in_weights(folder: Path, header: Any) -> None:
    path = folder / "h.safetensors"
    text = json.dumps(header, skipkeys=True).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    found = one_line(lambda: read_weights(path))
    assert found is None or found[0] == {}


@given(st.binary(max_size=200))
def test_any_bytes_can_be_sealed_where_they_hold_an_open_seal(folder: Path, content: bytes) -> None:
    path = folder / "sealed"
    path.write_bytes(content + OPEN_SEAL.encode() + content)
    close_seal(path)
    assert path.read_bytes()[: len(content)] == content and path.stat().st_size == 2 * len(content) + len(OPEN_SEAL)


def encoded(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((9, 7)).convert("RGB").save(stream, kind, **options)
    return stream.getvalue()


@given(
    st.binary(max_size=60)
    | st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]).flatmap(lambda kind: changed_bytes(encoded(kind)))
)
def test_any_bytes_as_a_picture(content: bytes) -> None:
    try:
        pixels = decode_bytes(content, max_pixels=100_000)
    except ImageProblem as problem:
        assert problem.status in ("not_an_image", "too_large", "truncated", "unreadable") and str(problem)
    else:
        assert pixels.ndim == 3 and pixels.shape[2] == 3
