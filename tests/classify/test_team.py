from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from buffycoat.classify.team import Team, started_team
from buffycoat.core.errors import InputError
from buffycoat.data.tables.classify import TRAINING_HISTORY
from buffycoat.nets.weights import read_weights
from tests.classify.cases import SWIN, TINY, inputs, make_dataset, train

SETTINGS = TINY.model_copy(
    update={
        "backbone_options": {**SWIN, "drop_path_rate": 0.0}, "batch": 7, "micro_batch": 3, "checkpoint_minutes": 1e-9,
        "processes": 2,
    }
)  # fmt: skip


def test_alone_there_is_nothing_to_do() -> None:
    network = torch.nn.Linear(2, 2)
    with started_team(torch.device("cpu"), 8) as team:
        assert (team.rank, team.size, team.leads) == (0, 1, True)
        assert team.joined(network) is network and team.agree(15) == 15
        assert torch.equal(team.total(torch.ones(1)), torch.ones(1))
        assert list(range(7))[team.share()] == list(range(7))


def test_the_members_share_a_batch_without_overlap() -> None:
    shares = [list(range(7))[Team(rank, 3).share()] for rank in range(3)]
    assert sorted(sum(shares, [])) == list(range(7)) and max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_members_than_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "9")
    with pytest.raises(InputError, match="9 processes cannot share a batch of 8"), started_team(torch.device("cpu"), 8):
        pass


def command(folder: Path, out: Path) -> list[str]:
    """Return the command that the rule runs for fold 0."""
    named = {f"--{name}": str(path) for name, path in inputs(folder, "labels").items()}
    named |= {"--fold": "0", "--recipe": "focal", "--seed": "1", "--settings": SETTINGS.model_dump_json()}
    named |= {"--model": str(out / "model.safetensors"), "--history": str(out / "history.parquet")}
    return [sys.executable, "-m", "buffycoat.classify.train_fold", *(part for pair in named.items() for part in pair)]


ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def finish(folder: Path, out: Path) -> str:
    """Run the rule's command to its end; return what it said."""
    done = subprocess.run(command(folder, out), env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data set with fold 0 trained on two processes in `straight`, and what they said."""
    folder = make_dataset(tmp_path_factory.mktemp("team"))
    return folder, finish(folder, folder / "straight")


def test_two_processes_train_what_one_does(straight: tuple[Path, str]) -> None:
    folder, said = straight
    alone = train(folder, "alone", settings=SETTINGS.model_copy(update={"processes": 1}))
    one, two = (read_weights(out / "model.safetensors")[0] for out in (alone, folder / "straight"))
    # A batch of 7 is shared 4 to 3: the mean is over the images, not over the processes.
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=2e-4), name
    told = [TRAINING_HISTORY.read(out / "history.parquet")["train_loss"] for out in (alone, folder / "straight")]
    assert told[1].tolist() == pytest.approx(told[0].tolist(), rel=1e-3)
    assert said.count("epoch 1/3: train loss") == 1, "one of them speaks"


def test_slurms_warning_stops_all_at_one_step_and_the_next_run_ends_alike(straight: tuple[Path, str]) -> None:
    folder, out = straight[0], straight[0] / "halted"
    halted = subprocess.Popen(command(folder, out), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not (out / "checkpoint.safetensors").exists() and halted.poll() is None:
        time.sleep(0.01)
    halted.send_signal(signal.SIGUSR1)
    assert halted.wait(60) != 0 and not (out / "model.safetensors").exists()
    assert "continuing after step" in finish(folder, out)
    assert (out / "model.safetensors").read_bytes() == (folder / "straight" / "model.safetensors").read_bytes()


def test_several_processes_need_the_command_line(dataset: Path) -> None:
    with pytest.raises(InputError, match="needs the command line"):
        train(dataset, "x", settings=SETTINGS)
