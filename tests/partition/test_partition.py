from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from buffycoat.core.files import read_json
from buffycoat.crop.framing import frame_cell
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.gather_portions import gather_portions
from buffycoat.data.images import CYTOPLASM, CellImages, ShardWriter
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, with_places
from buffycoat.data.tables.partition import NOISE, NOISE_SCORES
from buffycoat.partition.flag_noisy import flag_noisy, judge
from buffycoat.partition.measure_noise import measure_noise
from buffycoat.partition.scores import measure
from buffycoat.partition.settings import FlagNoisy
from tests.partition.drawing import cell


@pytest.fixture()
def cropped(tmp_path: Path) -> Path:
    """40 crops, the last 10 noisy; the first 20 are for training; the window of crop 3 leaves its image."""
    rows = []
    with ShardWriter(tmp_path / "shards", 64) as writer:
        for k in range(40):
            crop, mask = cell(k)
            if k >= 30:
                crop = DEGRADATIONS["salt_and_pepper"](crop, 4, np.random.default_rng(k))
            if k == 3:
                crop[:16] = 255
            shard, row, crc = writer.add(f"{k}", crop, mask)
            place = {"row": 16.0 if k == 3 else 32.0, "col": 32.0}
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc, **place})
    frame = pd.DataFrame(rows).assign(
        window_px=64,
        found=True,
        masks=1,
        touches_border=False,
        area_px=1,
        nucleus_area_px=1,
        reason="",
    )
    CROPS.write(frame, tmp_path / "crops.parquet")
    images = pd.DataFrame({"image_id": frame["image_id"], "role": ["train"] * 20 + ["test"] * 20})
    images = images.assign(path="x", split=None, width=64, height=64, sha256=None, status="ok", reason="")
    IMAGES.write(with_places(images), tmp_path / "images.parquet")
    return tmp_path


def measured(folder: Path, threads: int = 2) -> pd.DataFrame:
    paths = {"images": folder / "images.parquet", "crops": folder / "crops.parquet", "scores": folder / "s.parquet"}
    measure_noise(**paths, threads=threads)
    return NOISE_SCORES.read(folder / "s.parquet")


def test_the_step_stores_what_is_measured_inside_the_image(cropped: Path) -> None:
    stored = measured(cropped)
    cells = CellImages(CROPS.read(cropped / "crops.parquet"), cropped / "crops.parquet")
    for k, top in ((7, 0), (3, 16)):
        expected = asdict(measure(cells.crop(k)[top:], cells.mask(k)[top:]))
        assert stored.loc[k, list(expected)].astype(float).to_dict() == pytest.approx(expected)
    assert measured(cropped, threads=1).equals(stored)


def test_portions_gathered_are_what_one_job_measures(cropped: Path) -> None:
    stored, gathered = measured(cropped), cropped / "gathered" / "noise_scores.parquet"
    paths = {"images": cropped / "images.parquet", "crops": cropped / "crops.parquet"}
    portions = {f"{k}-of-3": cropped / f"{k}-of-3" / "noise_scores.parquet" for k in (1, 2, 3)}
    for portion, table in portions.items():
        measure_noise(**paths, scores=table, portion=portion)
    gather_portions(portions=list(portions.values()), table=gathered)
    pd.testing.assert_frame_equal(NOISE_SCORES.read(gathered), stored)


def test_the_step_flags_the_noisy_crops_by_training_rows_alone(cropped: Path) -> None:
    stored = measured(cropped)
    arguments = {"images": cropped / "images.parquet", "scores": cropped / "s.parquet", "noise": cropped / "n.parquet"}
    flag_noisy(**arguments, threshold=cropped / "t.json", settings=FlagNoisy())
    table, threshold = NOISE.read(cropped / "n.parquet"), read_json(cropped / "t.json")
    assert table["noisy"].tolist() == [False] * 30 + [True] * 10
    assert threshold["fitted_on"] == 20 and threshold["noisy"] == 10
    for part in (threshold, threshold["blur"], threshold["light"]):
        assert sum(part["histogram"]["counts"]) == 40
    # Other test images do not move a threshold: they were fitted on training rows.
    stored.loc[20:, ["noise_score", "surroundings_noise", "background_level"]] = 1.0
    stored.loc[20:, "blur_score"] = 0.99
    NOISE_SCORES.write(stored, cropped / "s.parquet")
    flag_noisy(**arguments, threshold=cropped / "t2.json", settings=FlagNoisy())
    again = read_json(cropped / "t2.json")
    assert again["level"] == threshold["level"] and again["blur"]["level"] == threshold["blur"]["level"]
    assert again["light"]["usual"] == threshold["light"]["usual"]
    fixed = FlagNoisy(threshold="fixed", level=0.5)
    flag_noisy(**arguments, threshold=cropped / "t3.json", settings=fixed)
    assert read_json(cropped / "t3.json")["level"] == 0.5


@pytest.mark.parametrize("over", ["field", "cell"])
def test_real_clean_cells_are_not_flagged(real_data: Path, over: str) -> None:
    rows = []
    for path in sorted((real_data / "pbc" / "images").iterdir())[::14]:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        # A disc in the middle stands for the cell: the method of segmentation is not what is tested.
        mask = cv2.circle(np.zeros(image.shape[:2], np.uint8), (180, 180), 90, CYTOPLASM, -1)
        framed = frame_cell(np.asarray(image, np.uint8), mask, 1, 280, 128)
        rows.append(asdict(measure(framed.crop, framed.mask)))
    settings = FlagNoisy.model_validate({"noise_over": over})
    table, _ = judge(pd.DataFrame(rows), np.ones(len(rows), bool), settings)
    assert table["noisy"].mean() <= 0.01
