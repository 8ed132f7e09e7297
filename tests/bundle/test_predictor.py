"""The composition of the stages, and how it is imported."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
import typing

import pytest

import buffycoat

STEPS = [
    "crop.crop_cells",
    "partition.measure_noise",
    "partition.flag_noisy",
    "restore.restore_cells",
    "classify.predict_fold",
    "classify.combine_folds",
    "embed.embed_cells",
    "embed.train_head",
    "measure.measure_cells",
    "refine.refine_labels",
    "review.find_suspects",
]
"""The steps that a new image passes through."""


@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_new_images_applies_a_frozen_dataclass_to_a_frame(name: str) -> None:
    module = importlib.import_module(f"buffycoat.{name}")
    apply, step = module.apply, getattr(module, name.partition(".")[2])
    kinds = typing.get_type_hints(apply)
    frame, models = list(inspect.signature(apply).parameters)[:2]
    assert kinds[frame].__name__ == "DataFrame"
    assert dataclasses.is_dataclass(kinds[models]) and kinds[models].__dataclass_params__.frozen
    called = step.__code__.co_names + getattr(module, "judge", step).__code__.co_names
    assert "apply" in called, "the step calls the same function"


def test_the_package_gives_the_predictor_and_stays_light() -> None:
    code = "import sys, buffycoat; print(sorted({'torch', 'pandas', 'numpy', 'pyarrow', 'cv2'} & set(sys.modules)))"
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert light.stdout.strip() == "[]"
    assert inspect.isclass(buffycoat.Predictor) and buffycoat.Predictor.__name__ == "Predictor"
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = buffycoat.Predicter
