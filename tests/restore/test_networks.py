from __future__ import annotations

import pytest
import torch

from buffycoat.restore.networks import (
    Discriminator,
    Generator,
    checkerboard_score,
    initialise,
    pad_to_multiple,
    restore_batch,
)


def small(norm: str = "instance", residual: bool = True, upsampling: str = "resize") -> Generator:
    torch.manual_seed(0)
    network = Generator(4, 8, norm, upsampling, 0.0, residual)  # type: ignore[arg-type]
    if upsampling == "transposed":
        initialise(network)
    elif residual:
        # It starts as the identity, of which nothing could be learnt here.
        for parameter in list(network.last.parameters())[-2:]:
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    return network


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_networks_have_the_papers_sizes() -> None:
    assert parameters(Generator(8, 64, "batch", "transposed", 0.5, False)) == 54_413_955
    assert parameters(Discriminator(64, "batch")) == 2_768_705


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("side", [32, 48, 50])
def test_output_has_the_inputs_size_and_range(side: int, residual: bool) -> None:
    x = torch.rand(2, 3, side, side) * 2 - 1
    with torch.inference_mode():
        y = restore_batch(small(residual=residual).eval(), x, 4)
    assert y.shape == x.shape and y.abs().max() <= 1


def test_an_image_comes_out_the_same_alone_and_in_a_batch() -> None:
    network = small().eval()
    x = torch.rand(5, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        together, alone = network(x), torch.cat([network(image[None]) for image in x])
    assert torch.allclose(together, alone, atol=1e-5)


def test_padding_repeats_the_edge_and_only_where_needed() -> None:
    x = torch.rand(1, 3, 10, 16)
    padded = pad_to_multiple(x, 3)
    assert padded.shape == (1, 3, 16, 16)
    assert torch.equal(padded[..., :10, :], x) and torch.equal(padded[..., 15, :], x[..., 9, :])
    assert pad_to_multiple(torch.rand(1, 3, 8, 8), 3).shape == (1, 3, 8, 8)


def test_the_discriminator_judges_patches() -> None:
    logits = Discriminator(8, "instance")(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 1, 6, 6)


def test_the_checkerboard_score_sees_checkerboards() -> None:
    rows, cols = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    smooth = torch.sin(rows / 5.0)[None].expand(3, -1, -1)
    stripes = ((rows + cols) % 2).float()[None].expand(3, -1, -1)
    assert checkerboard_score(stripes) == pytest.approx(1.0)
    assert checkerboard_score(smooth) < 0.01
    scores = [checkerboard_score(smooth + strength * stripes) for strength in (0, 0.2, 0.5, 2)]
    assert scores == sorted(scores) and 0 <= scores[0] and scores[-1] <= 1


def test_transposed_convolutions_start_with_a_checkerboard_and_resizing_does_not() -> None:
    x = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        by_kind = {
            kind: checkerboard_score(small(residual=False, upsampling=kind).eval()(x + 0.3)[0])
            for kind in ("transposed", "resize")
        }
    assert by_kind["transposed"] > 10 * by_kind["resize"]
