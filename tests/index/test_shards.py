from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from buffycoat.core.errors import InputError
from buffycoat.crop.crop_cells import crop_cells, load_again
from buffycoat.crop.settings import CropCells
from buffycoat.data.images import decode_bytes
from buffycoat.data.locations import Location, locations_of, read_encoded
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, TEST_LABELS
from buffycoat.index.listed import listed_inside
from buffycoat.index.lists import kind_of, lists_of
from buffycoat.index.overview import describe, look_at
from buffycoat.index.settings import Columns, Index, MakeLabels
from buffycoat.index.shards import shard_rows
from tests.index.cases import run_index, statuses


def encoded(seed: int, kind: str = "PNG", side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def shard(path: Path, seeds: range, named: bool = True, labels: list[object] | None = None, **more: object) -> Path:
    """Write a shard as the library `datasets` does; row groups of three rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(seed), "path": f"{seed:03d}.png" if named else None} for seed in seeds]
    columns = {"image": images, "label": labels or [("LY", "MO")[seed % 2] for seed in seeds], **more}
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_shards_of_a_folder_are_one_data_set(tmp_path: Path) -> None:
    for number, seeds in enumerate((range(5), range(5, 9))):
        shard(tmp_path / "data" / f"train-{number:05d}-of-00002.parquet", seeds)
    shard(tmp_path / "data" / "test-00000-of-00001.parquet", range(9, 12))
    (tmp_path / "none.parquet").write_bytes(b"PAR1")
    assert kind_of(str(tmp_path)) == "shards" and len(lists_of(str(tmp_path))) == 3
    frame, summary = run_index(tmp_path, tmp_path / "out")
    assert len(frame) == 12 and set(frame["status"]) == {"ok"}
    assert dict(zip(frame["image_id"], frame["role"], strict=True))["009.png"] == "test"
    assert (frame["role"] == "train").sum() == 9 and set(frame["split"]) == {"train", "test"}
    assert len(TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")) == 3
    for place, row in zip(locations_of(frame), frame.itertuples(), strict=True):
        assert read_encoded(place) == encoded(int(str(row.image_id)[:3]))
    lines = describe(look_at(str(tmp_path), Index()), MakeLabels(), 280, 128)
    assert "Parquet files with images inside" in lines[0] and any("32x32 px (12)" in line for line in lines)


def test_a_pattern_or_one_file_will_do(tmp_path: Path) -> None:
    path = shard(tmp_path / "train-00000-of-00002.parquet", range(4))
    shard(tmp_path / "train-00001-of-00002.parquet", range(4, 8))
    assert kind_of(str(path)) == "shards" and len(run_index(path)[0]) == 4
    pattern = tmp_path / "train-*.parquet"
    assert kind_of(str(pattern)) == "shards" and len(run_index(pattern, tmp_path / "o")[0]) == 8
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table({"image": ["a.png"], "label": ["LY"]}), table)
    assert kind_of(str(table)) == "table", "a table of paths stays one"


def test_rows_without_names_are_named_by_their_place(tmp_path: Path) -> None:
    shard(tmp_path / "a.parquet", range(2), named=False)
    shard(tmp_path / "b.parquet", range(2, 4), named=False)
    assert run_index(tmp_path, tmp_path / "out")[0]["image_id"].tolist() == [
        "a.parquet#1", "a.parquet#2", "b.parquet#1", "b.parquet#2",
    ]  # fmt: skip
    bytes_alone = tmp_path / "plain" / "c.parquet"
    bytes_alone.parent.mkdir()
    pq.write_table(pa.table({"img": [encoded(k) for k in range(4)], "label": [0, 1, 0, 1]}), bytes_alone)
    frame, summary = run_index(bytes_alone)
    assert frame["image_id"].tolist()[0] == "c.parquet#1" and summary["classes"] == {"0": 2, "1": 2}


def test_numbers_that_stand_for_names_are_read_as_these(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", range(4), labels=[0, 1, 0, -1])
    note = {"info": {"features": {"label": {"names": ["LY", "MO"], "_type": "ClassLabel"}}}}
    table = pq.read_table(path).replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, path)
    frame, _ = run_index(path)
    assert frame["label"].tolist()[:3] == ["LY", "MO", "LY"] and statuses(frame)["003.png"] == "unlabelled"


def test_a_bad_row_is_a_row_with_a_status(tmp_path: Path) -> None:
    rows = [{"bytes": encoded(0), "path": "a"}, {"bytes": None, "path": "b"}, {"bytes": b"text", "path": "c"},
            {"bytes": encoded(1)[:200], "path": "d"}, None, {"bytes": encoded(2), "path": "f"}]  # fmt: skip
    pq.write_table(pa.table({"image": rows, "label": ["LY", "MO"] * 3}), tmp_path / "a.parquet")
    frame, _ = run_index(tmp_path / "a.parquet")
    assert frame["status"].tolist() == ["ok", "missing", "not_an_image", "truncated", "missing", "ok"]


def test_what_a_parquet_file_must_hold(tmp_path: Path) -> None:
    two = pa.table({"picture": [encoded(0)], "mask": [encoded(1)], "label": ["LY"]})
    pq.write_table(two, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"several columns of images \(picture, mask\); name yours"):
        run_index(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column 'celltype'"):
        run_index(tmp_path / "a.parquet", image="picture", label="celltype")
    pq.write_table(pa.table({"image": [[1, 2]], "label": ["LY"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column of images"):
        shard_rows(str(tmp_path / "a.parquet"), False, Columns())


def test_crops_come_from_the_rows_and_changed_rows_are_found(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", range(7))
    run_index(path, tmp_path / "out")
    settings = CropCells(method="stain", window_px=32, size_px=32)
    crop_cells(images=tmp_path / "out/images.parquet", crops=tmp_path / "c/c.parquet", shards=tmp_path / "c/s",
               threads=2, settings=settings)  # fmt: skip
    assert len(CROPS.read(tmp_path / "c/c.parquet")) == 7
    images = IMAGES.read(tmp_path / "out/images.parquet")
    place = locations_of(images)[5]
    assert (load_again(place, images["sha256"][5]) == decode_bytes(encoded(5))).all()
    shard(path, range(1, 8))
    with pytest.raises(InputError, match=r"a\.parquet: row 6: has changed since it was indexed"):
        load_again(place, images["sha256"][5])
    with pytest.raises(InputError, match=r"row 99: .*cannot be read"):
        load_again(Location(str(path), "image", 98), images["sha256"][5])


def test_a_corrected_label_indexes_nothing_anew(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.parquet", range(4))
    before = listed_inside(str(path), Index())
    shard(path, range(4), labels=["MO", "MO", "LY", "LY"])
    assert listed_inside(str(path), Index()) == before
    shard(path, range(1, 5))
    assert listed_inside(str(path), Index()) != before


HUB = ["phase1_train", "phase2_train", "phase2_eval", "phase2_test"]


def release(root: Path, without: str | None = None) -> Path:
    """Draw WBCBench's full release: two configs, a pristine and a degraded form of every image of phase 2."""
    number = 0
    for split in HUB:
        rows: dict[str, list[dict[str, object]]] = {"pristine": [], "degraded": []}
        for k in range(8):
            number += 1
            common = {"label": ("LY", "MO")[k % 2], "wbcbench_split": split, "patient_hash": f"{split}-{k // 4}"}
            for part in rows if split != "phase1_train" else ("pristine",):
                rows[part].append({
                    "image": {"bytes": encoded(number + 1000 * (part == "degraded")), "path": f"{number:08d}.jpg"},
                    "image_id": f"{number:08d}" if part == "pristine" else f"d{number:08d}",
                    "severity": "none" if part == "pristine" else ("mild", "wild?")[k % 2],
                    "original_image_id": f"{number:08d}", **common,
                })  # fmt: skip
        for part, listed in rows.items():
            if listed:
                (root / part).mkdir(parents=True, exist_ok=True)
                frame = pd.DataFrame(listed)
                table = pa.Table.from_pandas(frame.drop(columns=without) if without else frame, preserve_index=False)
                for half in (0, 1):
                    pq.write_table(table.slice(4 * half, 4), root / part / f"{split}-{half:05d}-of-00002.parquet")
    return root


def test_the_full_release_has_patients_severities_and_pairs(tmp_path: Path) -> None:
    root = release(tmp_path / "release")
    assert kind_of(str(root)) == "wbcbench_hub"
    frame, summary = run_index(root, tmp_path / "out")
    assert len(frame) == 32 + 24 and set(frame["status"]) == {"ok"}
    tested = frame[frame["role"] == "test"]
    assert set(tested["split"]) == {"phase2_test"} and len(tested) == 16
    assert set(TEST_LABELS.read(tmp_path / "out" / "test_labels.parquet")["image_id"]) == set(tested["image_id"])
    assert set(frame["severity"]) == {"none", "mild", "wild?"}, "severities are taken as they are"
    by_id = frame.set_index("image_id")
    degraded = by_id[by_id.index.str.startswith("degraded/")]
    assert (
        degraded["original"].notna().all()
        and by_id.loc[by_id.index.str.startswith("pristine/"), "original"].isna().all()
    )
    for name, row in degraded.iterrows():
        clean = by_id.loc[row["original"]]
        assert str(row["original"]) == str(name).replace("degraded/d", "pristine/")
        assert clean["split"] == row["split"] and clean["group"] == row["group"] or row["role"] == "test"
    train = frame[frame["role"] == "train"]
    assert train["group"].nunique() == 6 and summary["groups"] == 6
    lines = describe(look_at(str(root), Index()), MakeLabels(), 280, 128)
    assert "WBCBench's full release" in lines[0] and "patients: 6; none is divided between folds" in lines


def test_one_part_of_the_release_is_enough(tmp_path: Path) -> None:
    root = release(tmp_path / "release")
    frame, _ = run_index(root / "degraded", tmp_path / "out")
    assert len(frame) == 24 and frame["original"].isna().all()


@pytest.mark.parametrize("name", ["patient_hash", "severity", "image_id", "wbcbench_split"])
def test_a_missing_column_of_the_release_is_named(tmp_path: Path, name: str) -> None:
    root = release(tmp_path / "release", without=name)
    with pytest.raises(
        InputError, match=rf"phase\d_\w+-00000-of-00002\.parquet: no column {name} \(found: .*has image, "
    ):
        run_index(root, tmp_path / "out")
