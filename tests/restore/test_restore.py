from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from torch import Tensor

from buffycoat.core.errors import InputError, Interrupted
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import BACKGROUND, CYTOPLASM, CellImages, Pixels, ShardWriter
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.index import IMAGES, LABELS
from buffycoat.data.tables.partition import NOISE
from buffycoat.data.tables.restore import CELLS, GAN_HISTORY, PAIRS, REFUSED
from buffycoat.nets.training import Checkpoint
from buffycoat.restore import restore_cells as step
from buffycoat.restore import train_gan as module
from buffycoat.restore.pairs import digest_of, divide_pairs, pairs_of
from buffycoat.restore.restore_cells import restore_cells
from buffycoat.restore.settings import RestoreCells, TrainGan
from buffycoat.restore.train_gan import train_gan
from tests.index_tables import write_index

TINY = TrainGan(depth=3, widths=(4, 4), steps=6, batch=2, ema=0.9, lambda_features=0.0)


def cell(seed: int, side: int = 32) -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(seed)
    crop = np.full((side, side, 3), 230, np.uint8)
    mask = np.full((side, side), BACKGROUND, np.uint8)
    middle = side // 2
    cv2.circle(crop, (middle, middle), 12, (190, 170, 210), -1)
    cv2.circle(crop, (middle + int(rng.integers(-3, 4)), middle), 7, (90, 50, 130), -1)
    cv2.circle(mask, (middle, middle), 12, CYTOPLASM, -1)
    return np.clip(crop + rng.normal(0, 2, crop.shape), 0, 255).astype(np.uint8), mask


@pytest.fixture()
def partitioned(tmp_path: Path) -> Path:
    """24 crops, the last 8 noisy, in six groups; the last 4 are test images."""
    rows = []
    with ShardWriter(tmp_path / "2_crop" / "shards", 32) as writer:
        for k in range(24):
            crop, mask = cell(k)
            if k >= 16:
                crop = DEGRADATIONS["salt_and_pepper"](crop, 4, np.random.default_rng(k))
            shard, row, crc = writer.add(f"{k}", crop, mask)
            rows.append({"image_id": f"{k}", "shard": f"shards/{shard}", "shard_row": row, "crc32": crc})
    crops = pd.DataFrame(rows).assign(
        row=0.0,
        col=0.0,
        window_px=32,
        found=True,
        masks=1,
        touches_border=False,
        area_px=1,
        nucleus_area_px=1,
        reason="",
    )
    CROPS.write(crops, tmp_path / "2_crop" / "crops.parquet")
    images = pd.DataFrame({"image_id": crops["image_id"], "role": ["train"] * 20 + ["test"] * 4})
    write_index(images.assign(label="SNE", group=[f"p{k % 6}" for k in range(24)]), tmp_path)
    noise = pd.DataFrame({"image_id": crops["image_id"], "noisy": [k >= 16 for k in range(24)]})
    noise = noise.assign(
        noise_score=1.0, surroundings_noise=1.0, blur_score=0.0, background_level=200.0, background_gradient=2.0,
        background_red=0.0, background_blue=0.0, light_deviation=0.5, blurred=False, badly_lit=False,
    )  # fmt: skip
    NOISE.write(noise, tmp_path / "noise.parquet")
    return tmp_path


def pairs(folder: Path) -> pd.DataFrame:
    tables = {"images": IMAGES, "labels": LABELS, "noise": NOISE}
    return pairs_of(*(table.read(folder / f"{name}.parquet") for name, table in tables.items()), seed=1)


def train(folder: Path, name: str, settings: TrainGan = TINY) -> Path:
    out = folder / name
    train_gan(
        images=folder / "images.parquet", labels=folder / "labels.parquet", noise=folder / "noise.parquet",
        crops=folder / "2_crop" / "crops.parquet", pairs=out / "pairs.parquet", generator=out / "g.safetensors",
        history=out / "h.parquet", samples=out / "s.png", seed=1, settings=settings,
    )  # fmt: skip
    return out


def test_pairs_are_clean_training_crops_divided_by_group(partitioned: Path) -> None:
    table = PAIRS.read(train(partitioned, "a", TINY.model_copy(update={"steps": 1})) / "pairs.parquet")
    pd.testing.assert_frame_equal(table, PAIRS.cast(pairs(partitioned)))
    assert set(table["image_id"]) == {str(k) for k in range(16)}
    groups = LABELS.read(partitioned / "labels.parquet").set_index("image_id")["group"]
    of_part = table.groupby("part")["image_id"].apply(lambda ids: set(groups[ids]))
    assert not of_part["fit"] & of_part["held_out"] and len(of_part["held_out"]) == 1
    more = divide_pairs(pairs(partitioned).assign(group=table["image_id"].map(groups)), 0.3, 1)
    held = more.loc[more["part"] == "held_out", "image_id"]
    assert groups[held].nunique() == 2


def test_pairs_that_the_data_give_are_trained_on(partitioned: Path) -> None:
    """Images 16 to 19 are degraded forms of 0 to 3, of the same patients; 20 is one without its clean form."""
    images = IMAGES.read(partitioned / "images.parquet")
    settings = TINY.model_copy(update={"steps": 2, "pairs": "given"})
    with pytest.raises(InputError, match="no degraded training image has a clean form"):
        train(partitioned, "none", settings)
    original = [f"{k - 16}" if 16 <= k < 20 else None for k in range(24)]
    IMAGES.write(images.assign(original=original, severity="mild"), partitioned / "images.parquet")
    out = train(partitioned, "given", settings)
    assert PAIRS.read(out / "pairs.parquet")["image_id"].tolist() == ["16", "17", "18", "19"]
    history = GAN_HISTORY.read(out / "h.parquet")
    assert history["psnr_noisy"].between(5, 40).all()


def test_changes_are_written_to_their_rows_and_refused_ones_keep_their_place() -> None:
    kept = {"shard": "a", "shard_row": 0, "crc32": 1, "restored": False, "noise_after": np.nan, "reason": "clean"}
    table = pd.DataFrame([kept] * 4).astype({"reason": object, "shard": object})
    new = {"shard": "b", "shard_row": 5, "crc32": 9, "noise_after": 0.5}
    changes = {3: {**new, "restored": True, "reason": "better"}, 1: {**new, "restored": False, "reason": "refused"}}
    found = step.with_changes(table, changes)
    assert found["shard"].tolist() == ["a", "a", "a", "b"] and found["shard_row"].tolist() == [0, 0, 0, 5]
    assert found["crc32"].tolist() == [1, 1, 1, 9] and found["restored"].tolist() == [False, False, False, True]
    assert found["noise_after"].isna().tolist() == [True, False, True, False]
    assert found["reason"].tolist() == ["clean", "refused", "clean", "better"]
    pd.testing.assert_frame_equal(step.with_changes(table, {}), table)


def test_nothing_clean_or_one_group_is_a_clear_error(partitioned: Path) -> None:
    noise = NOISE.read(partitioned / "noise.parquet").assign(noisy=True)
    NOISE.write(noise, partitioned / "noise.parquet")
    with pytest.raises(InputError, match="every training crop is flagged as noisy.*method: median"):
        pairs(partitioned)
    rows = pd.DataFrame({"image_id": ["a", "b"], "group": ["p", "p"]})
    with pytest.raises(InputError, match="one group"):
        divide_pairs(rows, 0.1, 1)


def test_an_interrupted_training_ends_with_the_same_bytes(partitioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(partitioned, "straight")
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        if state["done"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(partitioned, "halted")
    assert not (partitioned / "halted" / "g.safetensors").exists()
    monkeypatch.setattr(module.Checkpoint, "save", save)
    halted = train(partitioned, "halted")
    assert (halted / "g.safetensors").read_bytes() == (straight / "g.safetensors").read_bytes()
    pd.testing.assert_frame_equal(GAN_HISTORY.read(halted / "h.parquet"), GAN_HISTORY.read(straight / "h.parquet"))
    assert not (halted / "checkpoint.safetensors").exists()
    assert GAN_HISTORY.read(straight / "h.parquet")["step"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_signal_between_two_reports_costs_nothing(partitioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "report_steps", lambda steps: 4)
    straight = train(partitioned, "straight")
    step = module.Gan.step

    def step_and_signal(self: module.Gan, noisy: Tensor, clean: Tensor, number: int) -> dict[str, float]:
        if number == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, noisy, clean, number)

    monkeypatch.setattr(module.Gan, "step", step_and_signal)
    with pytest.raises(Interrupted, match="SIGUSR1: the state is stored"):
        train(partitioned, "halted")
    monkeypatch.setattr(module.Gan, "step", step)
    halted = train(partitioned, "halted")
    assert (halted / "g.safetensors").read_bytes() == (straight / "g.safetensors").read_bytes()
    tables = [GAN_HISTORY.read(out / "h.parquet") for out in (halted, straight)]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["step"].tolist() == [4, 6]


class _Stopped(Exception):
    """Ends a training where a machine might."""


def test_corrected_labels_alone_keep_a_checkpoint_and_a_changed_group_does_not(
    partitioned: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "buffycoat")

    def stop(*_: object) -> None:
        raise _Stopped

    labels = LABELS.read(partitioned / "labels.parquet")
    before = digest_of(pairs(partitioned))
    for column, value, same in (("label", "LY", True), ("group", "other", False)):
        monkeypatch.setattr(module, "write_weights", stop)
        with pytest.raises(_Stopped):
            train(partitioned, column)
        monkeypatch.undo()
        caplog.clear()
        LABELS.write(labels.assign(**{column: [value, *labels[column].iloc[1:]]}), partitioned / "labels.parquet")
        assert (digest_of(pairs(partitioned)) == before) == same
        caplog.set_level("INFO", "buffycoat")
        train(partitioned, column)
        assert ("continuing after step 6" in caplog.text) == same
        LABELS.write(labels, partitioned / "labels.parquet")


def test_training_lowers_the_error_of_held_out_crops(partitioned: Path) -> None:
    settings = TINY.model_copy(update={"steps": 160, "batch": 8, "widths": (8, 4), "learning_rate": 2e-3,
                                       "kinds": ("salt_and_pepper",)})  # fmt: skip
    history = GAN_HISTORY.read(train(partitioned, "longer", settings) / "h.parquet")
    assert history["psnr_restored"].iloc[-1] > history["psnr_noisy"].iloc[-1] + 1


def run_restore(folder: Path, method: str, generator: list[Path] | None = None, guard: bool = True) -> pd.DataFrame:
    restore_cells(
        crops=folder / "2_crop" / "crops.parquet", noise=folder / "noise.parquet", generator=generator,
        cells=folder / "4_restore" / "cells.parquet", refused=folder / "4_restore" / "refused.parquet",
        shards=folder / "4_restore" / "shards",
        settings=RestoreCells(method=method, guard=guard),  # type: ignore[arg-type]
    )  # fmt: skip
    return CELLS.read(folder / "4_restore" / "cells.parquet")


def test_the_median_restores_noisy_crops_and_passes_on_the_others(partitioned: Path) -> None:
    frame = run_restore(partitioned, "median")
    assert frame["image_id"].tolist() == [str(k) for k in range(24)]
    assert frame["restored"].tolist() == [False] * 16 + [True] * 8
    assert (frame["noise_after"].iloc[16:] < frame["noise_before"].iloc[16:]).all()
    measured = frame[["noise_after", "nucleus_change", "cell_change"]].notna()
    assert measured.iloc[16:].all(axis=None) and not measured.iloc[:16].any(axis=None)
    originals = CROPS.read(partitioned / "2_crop" / "crops.parquet")
    before = CellImages(originals, partitioned / "2_crop" / "crops.parquet")
    after = CellImages(frame, partitioned / "4_restore" / "cells.parquet")
    for k in range(24):
        after.crop(k)
        expected = cv2.medianBlur(np.array(before.crop(k)), 3) if k >= 16 else before.crop(k)
        assert np.array_equal(after.crop(k), expected)
        assert np.array_equal(after.mask(k), before.mask(k))


def test_keep_restores_nothing_and_says_so(partitioned: Path) -> None:
    frame = run_restore(partitioned, "keep")
    assert not frame["restored"].any()
    assert frame["reason"].tolist() == ["clean"] * 16 + ["noisy, kept: restoration is off"] * 8


def test_pix2pix_runs_from_its_file_and_needs_it(partitioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "RESTORE_BATCH", 3)
    out = train(partitioned, "gan")
    frame = run_restore(partitioned, "pix2pix", [out / "g.safetensors"], guard=False)
    assert frame["restored"].tolist() == [False] * 16 + [True] * 8
    with pytest.raises(InputError, match="needs the trained generator"):
        run_restore(partitioned, "pix2pix")
    with pytest.raises(InputError, match=r"absent\.safetensors: no such weights file"):
        run_restore(partitioned, "pix2pix", [out / "absent.safetensors"])


def test_refused_restorations_are_kept_beside_the_originals(partitioned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(crops: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, crops.shape, np.uint8)

    monkeypatch.setattr(step, "METHODS", {"median": lambda generator: spoil})
    frame = run_restore(partitioned, "median")
    refused = REFUSED.read(partitioned / "4_restore" / "refused.parquet")
    assert not frame["restored"].any() and frame["reason"].iloc[16:].str.startswith("refused: ").all()
    assert refused["image_id"].tolist() == [str(k) for k in range(16, 24)]
    pixels = CellImages(refused, partitioned / "4_restore" / "refused.parquet")
    kept = CellImages(frame, partitioned / "4_restore" / "cells.parquet")
    originals = CROPS.read(partitioned / "2_crop" / "crops.parquet")
    before = CellImages(originals, partitioned / "2_crop" / "crops.parquet")
    for k in range(8):
        pixels.crop(k)
        assert np.array_equal(kept.crop(16 + k), before.crop(16 + k))
        assert not np.array_equal(pixels.crop(k), before.crop(16 + k))
