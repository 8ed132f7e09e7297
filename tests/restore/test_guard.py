from __future__ import annotations

import cv2
import numpy as np
import pytest

from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.degradations import DEGRADATIONS
from buffycoat.data.images import BACKGROUND, CYTOPLASM, NUCLEUS, Pixels
from buffycoat.data.random import stream
from buffycoat.restore import restore_cells
from buffycoat.restore.restore_cells import area_changes, judge_restoration
from buffycoat.simulate.painting import draw_field, draw_slide

SIDE = 64
COUNT = 60


def drawn(number: int) -> tuple[Pixels, Pixels]:
    """Return a drawn cell and its true mask, cut and shrunk as the demo does."""
    code = sorted(CELL_TYPES)[number % len(CELL_TYPES)]
    image, mask = draw_field(code, draw_slide(stream(3, "slide", number)), stream(3, "field", number))
    rows, cols = np.nonzero(mask != BACKGROUND)
    top, left = (int(np.clip(round(v.mean()) - 112, 0, n - 224)) for v, n in zip((rows, cols), mask.shape, strict=True))
    cut = np.s_[top : top + 224, left : left + 224]
    crop = cv2.resize(image[cut], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.resize(mask[cut], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(crop, np.uint8), np.asarray(small, np.uint8)


def noisy_version(crop: Pixels, kind: str, number: int) -> Pixels:
    return DEGRADATIONS[kind](crop, 1 + number % 4, stream(3, "noise", number))


CELLS = [drawn(number) for number in range(COUNT)]


def level_of(crop: Pixels, where: np.ndarray) -> np.ndarray:
    return np.median(crop[where], axis=0).astype(np.uint8)


def without_nucleus(crop: Pixels, mask: Pixels) -> Pixels:
    grown = cv2.dilate((mask == NUCLEUS).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rest = (mask == CYTOPLASM) & ~grown
    result = crop.copy()
    result[grown & (mask != BACKGROUND)] = level_of(crop, rest if rest.any() else mask == BACKGROUND)
    return result


def with_lobe(crop: Pixels, mask: Pixels) -> Pixels:
    """Return the crop with half as much nucleus again, where the cytoplasm was: a lobe that was not there."""
    distance = cv2.distanceTransform((mask != NUCLEUS).astype(np.uint8), cv2.DIST_L2, 3)
    distance[mask != CYTOPLASM] = np.inf
    wanted = int(0.5 * (mask == NUCLEUS).sum())
    limit = np.sort(distance, axis=None)[wanted]
    result = crop.copy()
    result[distance <= limit] = level_of(crop, mask == NUCLEUS)
    return result


def shrunk(crop: Pixels, mask: Pixels) -> Pixels:
    """Return the crop with the cell's outer 40 % replaced by surroundings."""
    cell = (mask != BACKGROUND).astype(np.uint8)
    depth = cv2.distanceTransform(cell, cv2.DIST_L2, 3)
    limit = np.quantile(depth[depth > 0], 0.4)
    result = crop.copy()
    # Twice the rim's width: the cell's soft edge goes too.
    edge = cv2.dilate(cell, np.ones((5, 5), np.uint8)).astype(bool) & (depth <= limit)
    result[edge] = np.percentile(crop[cell == 0], 80, axis=0).astype(np.uint8)
    return result


@pytest.mark.parametrize("kind", ["salt_and_pepper", "coloured_gaussian"])
def test_true_restorations_of_drawn_cells_pass(kind: str) -> None:
    verdicts = [
        judge_restoration(noisy_version(crop, kind, k), crop, mask, guard=True) for k, (crop, mask) in enumerate(CELLS)
    ]
    assert np.mean([verdict.restored for verdict in verdicts]) >= 0.95
    assert all(verdict.noise_after < verdict.noise_before for verdict in verdicts if verdict.restored)


@pytest.mark.parametrize(("damage", "part"), [(without_nucleus, "nucleus"), (with_lobe, "nucleus"), (shrunk, "cell")])
def test_restorations_that_move_a_part_are_refused(damage: object, part: str) -> None:
    refused, judged = 0, 0
    for k, (crop, mask) in enumerate(CELLS):
        share = (mask == NUCLEUS).sum() / (mask != BACKGROUND).sum()
        if share == 0 or (damage is not shrunk and share > 0.6):
            continue  # no nucleus, or no cytoplasm worth the name to put a lobe in
        judged += 1
        noisy = noisy_version(crop, "salt_and_pepper", k)
        verdict = judge_restoration(noisy, damage(crop, mask), mask, guard=True)
        refused += not verdict.restored and f"{part} area" in verdict.reason
    assert judged >= 20 and refused / judged >= 0.95


def test_a_noisier_result_is_refused_and_the_reason_tells_both_scores() -> None:
    crop, mask = CELLS[0]
    verdict = judge_restoration(crop, noisy_version(crop, "salt_and_pepper", 3), mask, guard=True)
    assert not verdict.restored
    assert f"noise score {verdict.noise_before:.1f} would become {verdict.noise_after:.1f}" in verdict.reason


def test_the_reason_tells_the_value_and_its_limit() -> None:
    crop, mask = next((c, m) for c, m in CELLS if 0.1 < (m == NUCLEUS).sum() / (m != BACKGROUND).sum() < 0.5)
    noisy = noisy_version(crop, "salt_and_pepper", 3)
    verdict = judge_restoration(noisy, without_nucleus(crop, mask), mask, guard=True)
    assert "nucleus area would change by -100%, limit 20%" in verdict.reason
    kept = judge_restoration(noisy, without_nucleus(crop, mask), mask, guard=False)
    assert kept.restored and kept.nucleus_change == -1 and "unguarded" in kept.reason


def test_looser_limits_never_refuse_more(monkeypatch: pytest.MonkeyPatch) -> None:
    crop, mask = CELLS[1]
    noisy, grown = noisy_version(crop, "coloured_gaussian", 3), with_lobe(crop, mask)
    limits = [0.01, 0.1, 0.3, 1.0, 3.0]
    kept = []
    for limit in limits:
        monkeypatch.setattr(restore_cells, "MAX_NUCLEUS_CHANGE", limit)
        monkeypatch.setattr(restore_cells, "MAX_CELL_CHANGE", limit)
        kept.append(judge_restoration(noisy, grown, mask, guard=True).restored)
    assert kept == sorted(kept) and kept[-1]


def test_changes_are_zero_for_equal_images_and_ignore_brightness() -> None:
    for crop, mask in CELLS[:10]:
        assert area_changes(crop, crop, mask) == (0, 0)
        darker = (crop * 0.7).astype(np.uint8)
        assert max(abs(change) for change in area_changes(crop, darker, mask)) < 0.05


@pytest.mark.parametrize("value", [BACKGROUND, CYTOPLASM, NUCLEUS])
def test_masks_without_parts_and_flat_crops_are_judged_by_noise_alone(value: int) -> None:
    flat = np.full((32, 32, 3), 200, np.uint8)
    mask = np.full((32, 32), value, np.uint8)
    assert area_changes(flat, flat, mask) == (0, 0)
    verdict = judge_restoration(
        DEGRADATIONS["salt_and_pepper"](flat, 4, np.random.default_rng(0)), flat, mask, guard=True
    )
    assert verdict.restored


def test_an_erased_nucleus_is_seen_in_most_cells_without_a_mask_too() -> None:
    # Without a mask, what is dark in the whole crop stands for the nucleus: rougher, but not blind.
    refused = []
    for k, (crop, mask) in enumerate(CELLS):
        if 0.15 < (mask == NUCLEUS).sum() / (mask != BACKGROUND).sum() < 0.6:
            noisy = noisy_version(crop, "salt_and_pepper", k)
            verdict = judge_restoration(noisy, without_nucleus(crop, mask), np.zeros_like(mask), guard=True)
            refused.append(not verdict.restored)
    assert len(refused) >= 20 and np.mean(refused) > 0.5
