"""A disk that is full, or mounted read-only: one line, nothing half-written, and a rerun works once there is room."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from buffycoat.nets.training import Checkpoint
from tests.faults.steps_run import one_line, run_words
from tests.pipeline.workflow_run import Finished

OUTPUTS: dict[str, tuple[str, ...]] = {
    "make_index": ("--images", "--pixels"),
    "crop_cells": ("--crops", "--shards"),
    "measure_noise": ("--scores",),
    "train_gan": ("--generator", "--history", "--samples"),
    "train_head": ("--heads", "--history", "--probabilities"),
    "draw_figures": ("--figures",),
    "write_predictions": ("--predictions", "--submission"),
    "write_report": ("--report",),
}
"""A step for each kind of writer, and the options that name what it writes: pictures, the index, image shards, a
table, a checkpoint, weights, a folder of figures, CSV, HTML."""


@pytest.fixture()
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a disk of so many bytes, or gives the one that is mounted another size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(size: int) -> Path:
        options = f"size={size}" + (",remount" if place.is_mount() else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if os.getuid() != 0 or shutil.which("mount") is None:
            pytest.skip("only root may mount a small disk; the limit of a file's size stands in for it")
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode != 0:
            pytest.skip(f"no disk can be mounted here: {shown.stderr.strip()}")
        return place

    yield mounted
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def elsewhere(words: list[str], outputs: tuple[str, ...], folder: Path) -> tuple[list[str], list[Path]]:
    """Return a step's command with its outputs in `folder`, and the places of the outputs."""
    moved, places = list(words), []
    for option in outputs:
        place = moved.index(option) + 1
        places.append(folder / Path(moved[place]).name)
        moved[place] = str(places[-1])
    return moved, places


def room_of(undisturbed: Finished, words: list[str], outputs: tuple[str, ...]) -> int:
    """Return the bytes that a step's outputs take."""
    stored = [undisturbed.project.folder / words[words.index(option) + 1] for option in outputs]
    files = [file for path in stored for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def limited_to(size: int) -> Callable[[], None]:
    """Return what limits the size of every file that a process writes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.parametrize("rule", sorted(OUTPUTS))
def test_a_full_disk_stops_a_step_with_one_line_and_a_rerun_works(
    undisturbed: Finished, disk: Callable[[int], Path], rule: str
) -> None:
    words = undisturbed.commands[rule]
    # So little that the largest file does not fit, and yet enough to begin it. tmpfs counts in pages.
    room = max(8192, room_of(undisturbed, words, OUTPUTS[rule]) // 3)
    folder = disk(room)
    command, places = elsewhere(
        [word.replace('"method": "auto"', '"method": "stain"') for word in words], OUTPUTS[rule], folder
    )
    said = one_line(run_words(command, undisturbed.project.folder))
    assert "no space left on the disk" in said and str(folder) in said
    assert any(not place.exists() for place in places), "not all can have been written"
    assert not [path.name for path in folder.rglob("*") if "partial" in path.name]
    disk(256_000_000)
    shown = run_words(command, undisturbed.project.folder)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert all(place.exists() for place in places)


@pytest.mark.parametrize("rule", ["make_index", "train_head"])
def test_a_limit_of_file_size_stops_a_step_with_one_line(undisturbed: Finished, tmp_path: Path, rule: str) -> None:
    """Where no disk can be mounted, this shows the same for a table and weights."""
    command, places = elsewhere(undisturbed.commands[rule], OUTPUTS[rule], tmp_path)
    said = one_line(run_words(command, undisturbed.project.folder, limited_to(3000)))
    assert "larger than this system lets a file become" in said and str(tmp_path) in said
    assert not places[0].exists() and not [path.name for path in tmp_path.rglob("*") if "partial" in path.name]


def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(disk: Callable[[int], Path]) -> None:
    """The training can go on from there once there is room."""
    checkpoint = Checkpoint(disk(1_000_000) / "checkpoint.safetensors", "stamp")
    checkpoint.save({"done": 1, "weights": torch.ones(80_000)})
    with pytest.raises(OSError) as caught:
        checkpoint.save({"done": 2, "weights": torch.ones(200_000)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(checkpoint.path)
    stored = checkpoint.load()
    assert stored is not None and stored["done"] == 1
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.safetensors"]


def test_a_disk_mounted_read_only_is_one_line(undisturbed: Finished, disk: Callable[[int], Path]) -> None:
    folder = disk(1_000_000)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    command, _ = elsewhere(undisturbed.commands["make_folds"], ("--folds", "--receipt"), folder)
    assert "mounted read-only" in one_line(run_words(command, undisturbed.project.folder))


@pytest.mark.slow
def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    undisturbed: Finished, disk: Callable[[int], Path]
) -> None:
    folder = disk(3_000_000)
    target = "results/1_index/images.parquet"
    there = ("--directory", str(folder), "--snakefile", str(undisturbed.project.folder / "Snakefile"))
    shown = undisturbed.project.snakemake(*there, targets=(target,))
    assert shown.returncode != 0
    assert "draw_smears: error:" in shown.stdout + shown.stderr
    assert "no space left on the disk" in shown.stdout + shown.stderr
    disk(256_000_000)
    shown = undisturbed.project.snakemake(*there, "--rerun-incomplete", targets=(target,))
    assert shown.returncode == 0, (shown.stdout + shown.stderr)[-3000:]
    ours = (folder / target).read_bytes()
    assert ours == (undisturbed.project.folder / target).read_bytes()
