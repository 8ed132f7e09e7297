from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from buffycoat.classify import train_fold as module
from buffycoat.classify.backbones import classifier_names
from buffycoat.classify.predict_fold import load_fold_model
from buffycoat.classify.recipes import LOGIT_SCALE, log_frequencies
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError, Interrupted
from buffycoat.core.settings import Runtime
from buffycoat.data.methods import BODY_OF, RECIPE_NAMES
from buffycoat.data.tables.classify import TRAINING_HISTORY
from buffycoat.data.tables.index import LABELS
from buffycoat.nets.training import Checkpoint
from buffycoat.nets.weights import read_weights
from tests.classify.cases import TINY, inputs, train

ALIKE = ["fold", "epoch", "train_loss", "held_out_loss", "held_out_macro_f1", "kept"]


def bytes_of(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("choose", ["last", "best"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_in_the_middle_of_an_epoch_costs_nothing(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, choose: str, number: signal.Signals
) -> None:
    settings = TINY.model_copy(update={"choose": choose})
    straight = train(dataset, "straight", settings=settings)
    step = module.FoldTraining._step

    def step_and_signal(self: module.FoldTraining, *args: object) -> None:
        step(self, *args)  # type: ignore[arg-type]
        if self.done == self.steps + 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(module.FoldTraining, "_step", step_and_signal)
    with pytest.raises(Interrupted, match=f"{number.name}: the state is stored"):
        train(dataset, "halted", settings=settings)
    assert (dataset / "halted" / "fold_0" / "checkpoint.safetensors").exists()
    monkeypatch.setattr(module.FoldTraining, "_step", step)
    halted = train(dataset, "halted", settings=settings)
    assert bytes_of(halted) == bytes_of(straight)
    told = [TRAINING_HISTORY.read(out / "history.parquet")[ALIKE] for out in (straight, halted)]
    pd.testing.assert_frame_equal(*told)
    assert not (halted / "checkpoint.safetensors").exists()


def start(folder: Path, out: Path, settings: TrainFold) -> subprocess.Popen[bytes]:
    """Start the step as a process of its own, as a rule does."""
    named = {f"--{name}": str(path) for name, path in inputs(folder, "labels").items()}
    named |= {"--fold": "0", "--recipe": "focal", "--seed": "1", "--settings": settings.model_dump_json()}
    named |= {"--runtime": Runtime(checkpoint_minutes=1e-9).model_dump_json()}
    named |= {"--model": str(out / "model.safetensors"), "--history": str(out / "history.parquet")}
    command = [
        sys.executable,
        "-m",
        "buffycoat.classify.train_fold",
        *(part for pair in named.items() for part in pair),
    ]
    return subprocess.Popen(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, stderr=subprocess.PIPE)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)


def test_a_killed_process_goes_on_where_it_was_and_a_terminated_one_says_so(dataset: Path) -> None:
    # Stored after every step, so that the kill falls into the middle of an epoch.
    settings = TINY.model_copy(update={"epochs": 12})
    straight = train(dataset, "straight", settings=settings)
    out = dataset / "killed" / "fold_0"
    first = start(dataset, out, settings)
    wait_for(out / "checkpoint.safetensors", first)
    first.kill()
    assert first.wait() == -signal.SIGKILL and not (out / "model.safetensors").exists()
    second = start(dataset, out, settings)
    time.sleep(0.1)
    assert second.stderr is not None
    for line in second.stderr:
        if b"epoch 3/" in line:
            second.terminate()
            break
    told = second.stderr.read().decode()
    if second.wait() != 0:  # it may have ended before the signal came
        assert second.returncode == 128 + signal.SIGTERM
        assert "SIGTERM: the state is stored; run again to continue" in told
        third = start(dataset, out, settings)
        assert third.wait() == 0 and third.stderr is not None
        assert b"continuing after step" in third.stderr.read()
    assert bytes_of(out) == bytes_of(straight)


def test_another_machine_continues_the_checkpoint(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "a")
    monkeypatch.setattr(module.Checkpoint, "save", save)
    with caplog.at_level(logging.INFO, "buffycoat"):
        out = train(dataset, "a", runtime=Runtime(micro_batch=4, compile="never", checkpoint_minutes=1.0))
    assert "continuing after step" in caplog.text
    assert "micro" not in json.dumps(read_weights(out / "model.safetensors")[1]["settings"])


def test_other_settings_do_not_continue_the_checkpoint(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, state: dict[str, object]) -> None:
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Checkpoint, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, "a")
    monkeypatch.setattr(module.Checkpoint, "save", save)
    changed = TINY.model_copy(update={"learning_rate": 1e-3})
    assert bytes_of(train(dataset, "a", settings=changed)) == bytes_of(train(dataset, "b", settings=changed))


def test_a_fold_learns_and_never_sees_what_it_holds_out(dataset: Path) -> None:
    settings = TINY.model_copy(update={"epochs": 8})
    out = train(dataset, "run", settings=settings)
    history = TRAINING_HISTORY.read(out / "history.parquet")
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["kept"].tolist() == [False] * 7 + [True] and (history["images_per_s"] > 0).all()
    # Held-out labels do not reach the weights: with others, the model is the same.
    labels = LABELS.read(dataset / "labels.parquet")
    labels.loc[labels["image_id"] == "0", "label"] = "LY"
    LABELS.write(labels, dataset / "labels.parquet")
    assert bytes_of(train(dataset, "again", settings=settings)) == bytes_of(out)


def test_the_best_epoch_is_the_first_with_the_best_held_out_score(dataset: Path) -> None:
    out = train(dataset, "run", settings=TINY.model_copy(update={"epochs": 6, "choose": "best"}))
    history = TRAINING_HISTORY.read(out / "history.parquet")
    scores = history["held_out_macro_f1"]
    assert history.loc[history["kept"], "epoch"].tolist() == [int(scores.to_numpy().argmax()) + 1]


def test_a_class_without_training_images_does_not_stop_a_fold(dataset: Path) -> None:
    # PC has one image (29), held out by fold 1: that fold has none to learn from.
    for recipe in ("focal", "ldam", "balanced_softmax"):
        settings = TINY.model_copy(update={"imbalance": "both", "rebalance": "log"})
        out = train(dataset, f"run_{recipe}", 1, settings, recipe)
        assert np.isfinite(TRAINING_HISTORY.read(out / "history.parquet")["train_loss"]).all()


def test_divergence_stops_with_the_step_and_a_hint(dataset: Path) -> None:
    wild = TINY.model_copy(update={"learning_rate": 1e30, "clip_norm": 0.0, "epochs": 5})
    with pytest.raises(InputError, match=r"the loss became .* at epoch \d+, step \d+.*learning_rate"):
        train(dataset, "wild", settings=wild)


def test_the_effective_weight_of_each_class_is_told_and_a_warning_where_two_multiply(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = TINY.model_copy(update={"imbalance": "both", "rebalance": "log", "epochs": 1})
    with caplog.at_level(logging.INFO, "buffycoat"):
        train(dataset, "both", settings=both)
    # Fold 0 learns 7 BA, 7 LY and 1 PC.
    assert "focal, share of the training signal from epoch 1: BA 0." in caplog.text
    assert "both re-balance by 'log': they multiply" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "buffycoat"):
        train(dataset, "ldam", settings=TINY.model_copy(update={"epochs": 5}), recipe="ldam")
    assert "from epoch 5" in caplog.text and "multiply" not in caplog.text


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_every_recipe_writes_a_model_that_says_what_it_is(dataset: Path, recipe: str) -> None:
    wanted = BODY_OF.get(recipe)
    body = [train(dataset, "body", recipe=wanted) / "model.safetensors"] if wanted else None
    out = train(dataset, recipe, recipe=recipe, body=body)
    network, settings = load_fold_model(out / "model.safetensors", ["BA", "LY", "PC"])
    assert settings == TINY
    assert read_weights(out / "model.safetensors")[1]["recipe"] == recipe
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 3) and (recipe != "ldam" or logits.abs().max() <= LOGIT_SCALE)


def test_logit_adjustment_is_the_body_with_moved_biases(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    body = train(dataset, "body", recipe="cross_entropy") / "model.safetensors"
    with caplog.at_level("WARNING", logger="buffycoat"):
        out = train(dataset, "adjusted", recipe="logit_adjustment", body=[body])
    assert "label_smoothing 0.1 narrows the body's logits" in caplog.text
    before, after = read_weights(body)[0], read_weights(out / "model.safetensors")[0]
    head = classifier_names(load_fold_model(body, ["BA", "LY", "PC"])[0])
    (bias,) = (name for name in head if name.endswith("bias"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items() if name != bias)
    counts = np.array([7, 7, 1])
    assert (before[bias] - after[bias]).tolist() == pytest.approx(log_frequencies(counts).tolist(), abs=1e-5)
    history = TRAINING_HISTORY.read(out / "history.parquet")
    assert len(history) == 1 and history["train_loss"].isna().all() and history["kept"].all()


def test_a_body_that_does_not_fit_is_refused(dataset: Path) -> None:
    body = [train(dataset, "focal") / "model.safetensors"]
    with pytest.raises(InputError, match="expected the model of cross_entropy, fold 0"):
        train(dataset, "x", recipe="crt", body=body)
    other = [train(dataset, "plain", 1, recipe="cross_entropy") / "model.safetensors"]
    with pytest.raises(InputError, match="expected the model of cross_entropy, fold 0"):
        train(dataset, "x", recipe="logit_adjustment", body=other)
    with pytest.raises(InputError, match="--body must name the model of cross_entropy"):
        train(dataset, "x", recipe="crt")


def test_the_settings_of_a_model_can_be_read_without_this_package(dataset: Path) -> None:
    about = read_weights(train(dataset, "run") / "model.safetensors")[1]
    assert json.loads(json.dumps(about["settings"]))["size_px"] == 32
