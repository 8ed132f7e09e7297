from __future__ import annotations

import copy
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from buffycoat.classify import fold_training as module
from buffycoat.classify.augment import augment
from buffycoat.classify.backbones import classifier_names, normalise
from buffycoat.classify.crops import Crops
from buffycoat.classify.fold_training import FoldTraining, pieces
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.settings import Runtime
from tests.classify.cases import SWIN, TINY

LABELS = np.array([0] * 14 + [1] * 15 + [2])


def training(
    folder: Path, recipe: str = "cross_entropy", body: Any = None, runtime: Runtime = Runtime(), **changes: Any
) -> FoldTraining:
    settings = TINY.model_copy(update={"backbone_options": {**SWIN, "drop_path_rate": 0.0}, **changes})
    crops = Crops.read(folder / "cells.parquet", settings.background, settings.size_px, torch.device("cpu"))
    return FoldTraining(crops, [str(k) for k in range(30)], LABELS, 3, recipe, 1, settings, body, runtime)


def weights(made: FoldTraining) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_pieces_cover_everything_once() -> None:
    assert [list(range(10))[part] for part in pieces(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert pieces(3, 8) == [slice(0, 3)]


def test_a_step_is_one_step_of_adamw_on_the_mean_loss(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEIGHT_DECAY", 0.0)
    made = training(dataset, clip_norm=0.0, ema=0.0, label_smoothing=0.0)
    reference = training(dataset, clip_norm=0.0, ema=0.0, label_smoothing=0.0).model
    batch = made.sampler.make(0)
    images = augment(made.crops.as_images(batch.pixels), batch.draws, made.augmentation)
    optimiser = torch.optim.AdamW(reference.parameters(), lr=made.settings.learning_rate, weight_decay=0.0)
    loss = functional.cross_entropy(reference(normalise(images, reference)), batch.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    made._step(batch, made.balance(0))
    assert made.losses[0].item() == pytest.approx(loss.item(), rel=1e-5)
    assert all(
        torch.allclose(tensor, made.model.state_dict()[name], atol=1e-6)
        for name, tensor in reference.state_dict().items()
    )


@pytest.mark.parametrize("micro", [3, 8])
def test_micro_batches_add_up_to_the_batch(dataset: Path, micro: int) -> None:
    whole, split = training(dataset), training(dataset, runtime=Runtime(micro_batch=micro))
    for made in (whole, split):
        made.run_epoch(0)
    assert split.micro == micro
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, split.model.state_dict()[name], atol=2e-5), name


def test_where_memory_ends_the_micro_batch_is_halved_and_the_result_is_that_of_the_batch(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, tight = training(dataset), training(dataset)
    forward = tight.model.forward

    def small_memory(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("no")
        return forward(images)  # type: ignore[no-any-return]

    tight.model.forward = small_memory
    with caplog.at_level(logging.WARNING, "buffycoat"):
        for made in (whole, tight):
            made.run_epoch(0)
    assert tight.micro == 2 and "micro-batches of 2 from now on, the batch stays 8" in caplog.text
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, tight.model.state_dict()[name], atol=2e-5), name
    assert tight.state()["micro"] == 2


def test_memory_that_holds_no_image_stops(dataset: Path) -> None:
    made = training(dataset)

    def no_memory(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no")

    made.model.forward = no_memory  # type: ignore[method-assign]
    with pytest.raises(InputError, match="lower classify.train_fold.size_px"):
        made.run_epoch(0)


def test_a_state_taken_up_at_any_step_goes_on_bit_for_bit(dataset: Path) -> None:
    random = {**SWIN, "drop_path_rate": 0.3}
    straight = training(dataset, backbone_options=random)
    losses = [straight.run_epoch(epoch) for epoch in range(2)]
    for stop in range(1, 2 * straight.steps):
        stored: dict[str, Any] = {}

        def save(made: FoldTraining, at: int = stop, into: dict[str, Any] = stored) -> None:
            if made.done == at:
                into.update(copy.deepcopy(made.state()))

        halted = training(dataset, backbone_options=random)
        for epoch in range(2):
            halted.run_epoch(epoch, lambda made=halted: save(made))
        again = training(dataset, backbone_options=random)
        again.load(stored)
        told = [again.run_epoch(epoch) for epoch in range((stop - 1) // again.steps, 2)]
        assert told == losses[(stop - 1) // again.steps :]
        assert same(weights(straight), weights(again)), stop
        assert straight.averaged is not None and again.averaged is not None
        assert same(straight.averaged.module.state_dict(), again.averaged.module.state_dict())


def test_the_rate_rises_then_falls_and_the_classifier_has_its_own(dataset: Path) -> None:
    made = training(dataset, warm_up=0.25, epochs=8, head_rate=3.0)
    rates = []
    for number in range(8 * made.steps):
        made.schedule.step_update(number)
        rates.append([group["lr"] for group in made.optimiser.param_groups])
    body, head = np.array(rates)[:, 0], np.array(rates)[:, -1]
    peak = int(body.argmax())
    assert peak == round(0.25 * 8 * made.steps) and body[peak] == pytest.approx(made.settings.learning_rate)
    assert (np.diff(body[: peak + 1]) > 0).all() and (np.diff(body[peak:]) < 0).all()
    assert head[peak] == pytest.approx(3 * body[peak])


def test_decay_spares_biases_and_norms(dataset: Path) -> None:
    groups = training(dataset).optimiser.param_groups
    for group in groups:
        plain = all(parameter.ndim <= 1 for parameter in group["params"])
        assert (group["weight_decay"] == 0) or not plain


def test_the_judged_network_is_the_averaged_one(dataset: Path) -> None:
    made = training(dataset, ema=0.9)
    made.run_epoch(0)
    assert made.averaged is not None and made.judged is made.averaged.module
    assert not same(made.judged.state_dict(), weights(made))
    assert training(dataset, ema=0.0).judged is not made.judged


def test_frozen_stages_stay_as_they_are(dataset: Path) -> None:
    made = training(dataset, frozen_stages=2)
    before = weights(made)
    made.run_epoch(0)
    after = weights(made)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any(name.startswith(("patch_embed", "layers.0")) for name in moved)


def test_crt_trains_a_fresh_classifier_on_a_frozen_body(dataset: Path) -> None:
    body = weights(training(dataset))
    for name in body:
        if body[name].is_floating_point():
            body[name] += 0.01
    made = training(dataset, "crt", body)
    head = set(classifier_names(made.model))
    assert same({name: tensor for name, tensor in body.items() if name not in head}, weights(made))
    assert not any(torch.equal(weights(made)[name], body[name]) for name in head if name.endswith("weight"))
    made.run_epoch(0)
    moved = {name for name, tensor in weights(made).items() if name not in head and not torch.equal(tensor, body[name])}
    assert not moved
    drawn = LABELS[np.concatenate([made.sampler.drawn(epoch) for epoch in range(40)])]
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_loss_that_is_not_finite_stops_with_the_step(dataset: Path) -> None:
    made = training(dataset)
    made.done = made.steps + 2
    made.losses = [torch.tensor([1.0]), torch.tensor([math.nan])]
    with pytest.raises(InputError, match=r"the loss became nan at epoch 2, step 2: lower .*learning_rate"):
        made.look()


def test_a_loss_that_grows_many_times_over_stops(dataset: Path) -> None:
    made = training(dataset)
    made.done = 1
    made.losses = [torch.tensor([1.0])] * 16 + [torch.tensor([4.0])] * 16
    made.look()
    made.losses += [torch.tensor([6.0])] * 16
    with pytest.raises(InputError, match=r"training diverged: the loss rose from 1 to 6 in epoch 1 by step 48"):
        made.look()


def test_compiling_changes_no_name_of_a_weight(dataset: Path) -> None:
    plain = training(dataset, runtime=Runtime(compile="never"))
    compiled = training(dataset, runtime=Runtime(compile="always"))
    assert same(weights(plain), weights(compiled))
    assert compiled.model._compiled_call_impl is not None and plain.model._compiled_call_impl is None


def test_a_smaller_micro_batch_holds_for_a_training_that_is_taken_up_too(dataset: Path) -> None:
    stored = training(dataset).state()
    for asked, expected in ((3, 3), (0, 8)):
        again = training(dataset, runtime=Runtime(micro_batch=asked))
        again.load(stored)
        assert again.micro == expected
    tight = training(dataset)
    tight.load({**stored, "micro": 2})
    assert tight.micro == 2, "what the memory has held is not tried anew"


def test_settings_of_the_stage_are_read() -> None:
    assert TrainFold.model_validate(TINY.model_dump(mode="json")) == TINY
