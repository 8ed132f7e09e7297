from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from buffycoat.degradations import DEGRADATIONS, blur
from buffycoat.files import read_json
from buffycoat.images import BACKGROUND, CYTOPLASM, CellImages, Pixels, ShardWriter
from buffycoat.partition.flag_noisy import flag_noisy
from buffycoat.partition.measure_noise import measure_noise
from buffycoat.partition.scores import blur_score, illumination_level
from buffycoat.partition.settings import FlagNoisy, MeasureNoise
from buffycoat.partition.threshold import fit_threshold, histogram_of
from buffycoat.quality import grey_of, noise_score
from buffycoat.tables.crops import CROPS
from buffycoat.tables.images import IMAGES
from buffycoat.tables.noise import NOISE
from buffycoat.tables.noise_scores import NOISE_SCORES


def cell(seed: int, side: int = 64) -> tuple[Pixels, Pixels]:
    """A textured disc on a light ground, and its mask."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side]
    mask = np.where(np.hypot(rows - side / 2, cols - side / 2) < side * 0.36, CYTOPLASM, BACKGROUND).astype(np.uint8)
    texture = cv2.resize(rng.normal(0, 22, (side // 2, side // 2)).astype(np.float32), (side, side))
    level = np.where(mask == CYTOPLASM, 120 + rng.uniform(-15, 15), 225) + texture * (mask == CYTOPLASM)
    crop = np.clip(level[..., None] + np.array([10, -20, 25]) + rng.normal(0, 1.5, (side, side, 3)), 0, 255)
    return crop.astype(np.uint8), mask


def slow_noise_score(crop: Pixels, mask: Pixels) -> float:
    grey = grey_of(crop).astype(int)
    padded = np.pad(grey, 1, mode="edge")
    values = []
    for row, col in np.argwhere(mask != BACKGROUND):
        values.append(abs(grey[row, col] - int(np.median(padded[row : row + 3, col : col + 3]))))
    return float(np.mean(values))


def test_the_noise_score_is_its_definition() -> None:
    for seed in range(3):
        crop, mask = cell(seed, 32)
        assert noise_score(crop, mask) == pytest.approx(slow_noise_score(crop, mask), abs=1e-9)


def test_noise_outside_the_cell_does_not_count() -> None:
    crop, mask = cell(0)
    worse = crop.copy()
    far = cv2.dilate((mask != BACKGROUND).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    worse[far] = np.random.default_rng(0).integers(0, 256, (int(far.sum()), 3))
    assert noise_score(worse, mask) == noise_score(crop, mask)


def test_a_flat_crop_has_no_noise_and_is_blurred() -> None:
    flat, full = np.full((32, 32, 3), 77, np.uint8), np.full((32, 32), CYTOPLASM, np.uint8)
    assert noise_score(flat, full) == 0
    assert blur_score(flat, full) == 1
    assert illumination_level(flat, full) == 77
    assert noise_score(flat, np.zeros((32, 32), np.uint8)) == 0, "a mask without a cell counts every pixel"


def test_the_blur_score_grows_with_blur_and_stays_in_range() -> None:
    for seed in range(3):
        crop, mask = cell(seed)
        scores = [blur_score(blur(crop, s, np.random.default_rng(0)), mask) for s in (0, 1.5, 3, 4)]
        assert all(0 <= score <= 1 for score in scores)
        assert (np.diff(scores) > 0).all()


def test_scores_do_not_depend_on_orientation() -> None:
    crop, mask = cell(1)
    for turned, turned_mask in ((np.rot90(crop), np.rot90(mask)), (crop[:, ::-1], mask[:, ::-1])):
        c, m = np.ascontiguousarray(turned), np.ascontiguousarray(turned_mask)
        assert noise_score(c, m) == pytest.approx(noise_score(crop, mask))
        assert blur_score(c, m) == pytest.approx(blur_score(crop, mask), abs=0.01)


def test_illumination_is_that_of_the_surroundings() -> None:
    crop, mask = cell(2)
    assert illumination_level(crop, mask) == pytest.approx(float(grey_of(crop)[mask == BACKGROUND].mean()))
    assert illumination_level((crop * 0.7).astype(np.uint8), mask) < illumination_level(crop, mask)


@pytest.mark.parametrize("kind", ["salt_and_pepper", "coloured_gaussian", "blur"])
@pytest.mark.parametrize("severity", [2, 3, 4])
def test_known_severity_is_told_from_clean(kind: str, severity: int) -> None:
    clean = [cell(seed) for seed in range(60)]
    worse = [(DEGRADATIONS[kind](c, severity, np.random.default_rng(k)), m) for k, (c, m) in enumerate(clean)]
    score = blur_score if kind == "blur" else noise_score
    values = [score(c, m) for c, m in clean + worse]
    assert roc_auc_score([0] * 60 + [1] * 60, values) >= 0.99


def test_the_threshold_leaves_clean_crops_alone_and_finds_noisy_ones() -> None:
    rng = np.random.default_rng(0)
    clean = np.exp(rng.normal(np.log(5), 0.25, 2000))
    assert (clean >= fit_threshold(clean, 3.5)).mean() <= 0.005
    for share in (0.05, 0.3, 0.45):
        noisy = np.exp(rng.normal(np.log(25), 0.2, int(2000 * share)))
        level = fit_threshold(np.concatenate([clean, noisy]), 3.5)
        assert (clean >= level).mean() <= 0.01 and (noisy < level).mean() <= 0.1


def test_the_threshold_follows_the_unit_and_ignores_order() -> None:
    scores = np.exp(np.random.default_rng(1).normal(1, 0.3, 500))
    level = fit_threshold(scores, 3.5)
    assert fit_threshold(scores[::-1], 3.5) == pytest.approx(level)
    assert fit_threshold(scores * 3, 3.5) == pytest.approx(3 * level, rel=1e-6)
    assert fit_threshold(scores, 6.0) > level


@pytest.mark.parametrize("scores", [[4.0], [0.0, 0.0, 0.0], [3.0] * 10])
def test_degenerate_scores_have_a_threshold_above_them(scores: list[float]) -> None:
    level = fit_threshold(np.array(scores), 3.5)
    assert np.isfinite(level) and level > max(scores)


def test_the_histogram_counts_everything() -> None:
    edges, counts = histogram_of(np.array([0.5, 1, 2, 30.0]), 10)
    assert len(edges) == 11 and sum(counts) == 4 and edges == sorted(edges)


@pytest.fixture()
def cropped(tmp_path: Path) -> Path:
    rows = []
    with ShardWriter(tmp_path / "shards", 64) as writer:
        for k in range(40):
            crop, mask = cell(k)
            if k >= 30:
                crop = DEGRADATIONS["salt_and_pepper"](crop, 4, np.random.default_rng(k))
            shard, row, crc = writer.add(f"{k}", crop, mask)
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    frame = pd.DataFrame(rows).assign(
        row=0.0,
        col=0.0,
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
    images = images.assign(
        path="x", label=None, split=None, group=None, width=64, height=64, sha256=None, status="ok", reason=""
    )
    IMAGES.write(images, tmp_path / "images.parquet")
    return tmp_path


def test_the_steps_flag_the_noisy_crops_by_training_rows_alone(cropped: Path) -> None:
    measure_noise(crops=cropped / "crops.parquet", scores=cropped / "s.parquet", threads=2, settings=MeasureNoise())
    stored = NOISE_SCORES.read(cropped / "s.parquet")
    cells = CellImages(CROPS.read(cropped / "crops.parquet"), cropped / "crops.parquet")
    assert stored["noise_score"].iloc[7] == pytest.approx(noise_score(cells.crop(7), cells.mask(7)))
    arguments = {"images": cropped / "images.parquet", "scores": cropped / "s.parquet"}
    flag_noisy(**arguments, noise=cropped / "n.parquet", threshold=cropped / "t.json", settings=FlagNoisy())
    table, threshold = NOISE.read(cropped / "n.parquet"), read_json(cropped / "t.json")
    assert table["noisy"].tolist() == [False] * 30 + [True] * 10
    assert threshold["fitted_on"] == 20 and threshold["noisy"] == 10 and sum(threshold["histogram"]["counts"]) == 40
    # Other test images do not move the threshold: it was fitted on training rows.
    stored.loc[20:, "noise_score"] = 1.0
    NOISE_SCORES.write(stored, cropped / "s.parquet")
    flag_noisy(**arguments, noise=cropped / "n.parquet", threshold=cropped / "t2.json", settings=FlagNoisy())
    assert read_json(cropped / "t2.json")["level"] == threshold["level"]
    fixed = FlagNoisy(threshold="fixed", level=0.5)
    flag_noisy(**arguments, noise=cropped / "n.parquet", threshold=cropped / "t3.json", settings=fixed)
    assert read_json(cropped / "t3.json")["level"] == 0.5


def test_real_clean_cells_are_not_flagged(real_data: Path) -> None:
    names = sorted((real_data / "pbc" / "images").iterdir())[::14]
    scores = []
    for path in names:
        image = cv2.resize(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[40:320, 40:320], (128, 128))
        scores.append(noise_score(np.asarray(image, np.uint8), np.full((128, 128), CYTOPLASM, np.uint8)))
    values = np.array(scores)
    assert (values >= fit_threshold(values, FlagNoisy().spread)).mean() <= 0.01
