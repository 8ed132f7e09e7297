from __future__ import annotations

import numpy as np
import pytest
import torch

from buffycoat.core.errors import InputError
from buffycoat.core.settings import Runtime
from buffycoat.nets.training import Checkpoint
from buffycoat.restore.gan import Gan, Judge, checkerboard, generator_of, learning_rate, restored_by
from buffycoat.restore.pairs import CleanCrops, to_tensor
from buffycoat.restore.settings import TrainGan
from buffycoat.restore.train_gan import train

TINY = TrainGan(depth=3, widths=(4, 4), steps=10, batch=2, ema=0.9, lambda_features=0.0)


def crops(count: int, side: int = 24) -> CleanCrops:
    pixels = np.random.default_rng(0).integers(60, 200, (count, side, side, 3)).astype(np.uint8)
    return CleanCrops(pixels, np.full(count, side))


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    settings = TINY.model_copy(update={"steps": 100, "schedule": (0.1, 0.5), "learning_rate": 1.0})
    rates = [learning_rate(settings, number) for number in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1 and rates[50] == 1
    assert rates[75] == pytest.approx(0.5) and rates[100] == 0
    constant = settings.model_copy(update={"schedule": (0.0, 0.0)})
    assert {learning_rate(constant, number) for number in range(100)} == {1.0}


def test_an_untrained_residual_generator_changes_nothing() -> None:
    network = generator_of(TINY.model_dump()).eval()
    x = to_tensor(crops(2).pixels)
    assert torch.equal(network(x), x)
    assert not torch.equal(generator_of(TINY.model_copy(update={"residual": False}).model_dump()).eval()(x), x)


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_losses_are_named_and_both_networks_learn(norm: str) -> None:
    gan = Gan(TINY.model_copy(update={"norm": norm}), 1, torch.device("cpu"))
    before = {name: [p.clone() for p in gan.parts[name].parameters()] for name in ("generator", "discriminator")}
    clean = to_tensor(crops(2).pixels)
    losses = gan.step((clean + 0.3 * torch.randn(clean.shape)).clamp(-1, 1), clean, 5)
    assert set(losses) == {"G_GAN", "G_L1", "G_features", "D_real", "D_fake"} and all(
        np.isfinite(v) for v in losses.values()
    )
    for name, parameters in before.items():
        assert any(not torch.equal(a, b) for a, b in zip(parameters, gan.parts[name].parameters(), strict=True))


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_restoring_does_not_depend_on_the_batch(norm: str) -> None:
    gan = Gan(TINY.model_copy(update={"norm": norm}), 1, torch.device("cpu"))
    for parameter in list(gan.averaged.last.parameters())[-2:]:
        torch.nn.init.normal_(parameter, 0.0, 0.2, generator=torch.Generator().manual_seed(0))
    pixels = crops(5, side=21).pixels
    together = restored_by(gan.averaged, pixels, TINY.depth, 5, gan.device)
    alone = np.concatenate([restored_by(gan.averaged, pixels[k : k + 1], TINY.depth, 1, gan.device) for k in range(5)])
    assert together.shape == pixels.shape and np.abs(together.astype(int) - pixels).mean() > 3
    # Sums in another order may turn a rounding, nothing more.
    assert np.abs(together.astype(int) - alone).max() <= 1


def test_bfloat16_on_a_cpu_trains_as_float32_does() -> None:
    clean = to_tensor(crops(2).pixels)
    losses = []
    for bf16 in (False, True):
        gan = Gan(TINY, 1, torch.device("cpu"), Runtime(bf16_on_cpu=bf16))
        losses.append([gan.step(clean.flip(0), clean, number)["G_L1"] for number in range(3)])
    assert np.allclose(*losses, rtol=0.05) and losses[0] != losses[1]


def test_a_training_that_diverges_stops_and_says_what_to_do(tmp_path: object) -> None:
    gan = Gan(TINY, 1, torch.device("cpu"))
    with torch.no_grad():
        next(gan.generator.parameters()).fill_(float("nan"))
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "x")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"diverged before step 1 .*lower learning_rate"):
        train(gan, crops(4), Judge(crops(2), TINY, 1), checkpoint)


def test_judgements_compare_with_noisy_and_median_and_show_samples() -> None:
    judge = Judge(crops(3), TINY, 1)
    perfect = judge.scores(judge.clean)
    assert perfect["psnr_restored"] == 100 and perfect["ssim_restored"] == pytest.approx(1)
    assert perfect["psnr_noisy"] == judge.scores(judge.noisy)["psnr_restored"] < 100
    assert perfect["checkerboard_restored"] == perfect["checkerboard_clean"]
    sheet = judge.sheet({"step 5": judge.samples(judge.noisy), "step 10": judge.samples(judge.clean)})
    assert sheet.shape == (16 + 3 * 24, 4 * 24, 3)
    assert np.array_equal(sheet[16:, 24:48], sheet[16:, :24]) and np.array_equal(sheet[16:, 48:72], sheet[16:, 72:])


def test_the_checkerboard_of_crops_with_odd_sides_is_measured_too() -> None:
    flat = np.full((1, 21, 21, 3), 120, np.uint8)
    board = flat.copy()
    board[:, ::2] += 40
    assert checkerboard(flat) == 0 and checkerboard(board) > 0.9
