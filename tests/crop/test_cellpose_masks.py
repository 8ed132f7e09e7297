from __future__ import annotations

import numpy as np
import pytest
import torch
from cellpose import dynamics

from buffycoat.crop.cellpose_method import flow_errors, mask_workers, masks_of_flows, true_flows
from tests.crop.cellpose_stubs import drawn_labels, flows_and_logit, same_cells


def touching() -> np.ndarray:
    """Cells that share borders and touch the frame, one of them in one pixel row only."""
    labels = np.zeros((90, 110), np.int32)
    labels[:40, :50], labels[40:70, :50], labels[20:60, 50:90], labels[80, 10:100] = 1, 2, 3, 4
    return labels


@pytest.mark.parametrize("labels", [drawn_labels(120, 160, 1, 6), touching(), np.zeros((30, 40), np.int32)])
def test_true_flows_are_those_of_cellpose(labels: np.ndarray) -> None:
    np.testing.assert_array_equal(true_flows(labels), dynamics.masks_to_flows_gpu(labels)[0])


def test_true_flows_are_unit_vectors_towards_the_centre() -> None:
    rows, cols = np.indices((61, 61))
    away = np.stack([rows - 30.0, cols - 30.0])
    labels = (np.hypot(*away) < 22).astype(np.int32)
    flows = true_flows(labels)
    ring = (labels > 0) & (np.hypot(*away) > 3)
    assert np.allclose((flows[:, ring] ** 2).sum(0), 1)
    assert ((flows * away)[:, ring].sum(0) / np.hypot(*away)[ring] < -0.95).all()
    assert (flows[:, labels == 0] == 0).all()


def test_flow_errors_are_those_of_cellpose() -> None:
    labels = touching()
    flows = flows_and_logit(labels)[:2] + np.random.default_rng(0).normal(0, 2, (2, 90, 110)).astype(np.float32)
    errors = flow_errors(labels, flows)
    np.testing.assert_allclose(errors, dynamics.flow_error(labels, flows, torch.device("cpu"))[0], rtol=1e-12)
    assert (errors > 0.05).all()


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.5, 6.0])
def test_masks_are_those_of_cellpose(noise: float) -> None:
    labels = drawn_labels(200, 220, 3, 8)
    rng = np.random.default_rng(7)
    # Noise that varies over the image, so that some masks pass the check of their flows and some do not.
    flows = flows_and_logit(labels) + noise * rng.normal(0, 1, (3, 200, 220)) * np.linspace(0, 1, 220)
    flows = flows.astype(np.float32)
    expected = dynamics.resize_and_compute_masks(flows[:2], flows[2], niter=200, max_size_fraction=1.0)
    np.testing.assert_array_equal(masks_of_flows(flows), expected)
    if noise == 0:
        assert same_cells(expected, labels)
    if noise == 6:
        unchecked = dynamics.resize_and_compute_masks(flows[:2], flows[2], flow_threshold=0, max_size_fraction=1.0)
        assert expected.max() < unchecked.max(), "the check has something to drop"


def test_a_cell_over_most_of_the_frame_is_kept() -> None:
    rows, cols = np.indices((128, 128))
    labels = (np.hypot(rows - 64, cols - 60) < 54).astype(np.int32)
    flows = flows_and_logit(labels)
    assert dynamics.resize_and_compute_masks(flows[:2], flows[2]).max() == 0, "by default Cellpose loses it"
    np.testing.assert_array_equal(masks_of_flows(flows), labels)


def test_nothing_gives_nothing() -> None:
    found = masks_of_flows(np.full((3, 40, 50), -1, np.float32))
    assert found.shape == (40, 50) and found.dtype == np.int32 and (found == 0).all()


def test_processes_give_the_same_masks() -> None:
    many = [flows_and_logit(drawn_labels(100, 110, seed, 4, (8, 16))) for seed in range(4)]
    with mask_workers(2) as workers:
        for found, flows in zip(workers.map(masks_of_flows, many), many, strict=True):
            np.testing.assert_array_equal(found, masks_of_flows(flows))
