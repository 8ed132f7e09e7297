from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from buffycoat.config import Config, step_settings
from buffycoat.core.environment import installed
from buffycoat.core.errors import InputError
from buffycoat.core.files import read_json, sha256_of
from buffycoat.crop.segmenter import SHIPPED_SHA256
from buffycoat.data.tables.index import IMAGES, with_places
from buffycoat.report.write_provenance import digest_of_images, write_provenance


def table(*rows: tuple[str, str | None]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["image_id", "sha256"])
    return with_places(frame.assign(path="x.jpg", role="test", split=None, width=1, height=1, status="ok", reason=""))


def written(folder: Path, config: str | None = None) -> dict[str, Any]:
    images, result, source = folder / "images.parquet", folder / "labels.csv", folder / "listed.csv"
    IMAGES.write(table(("a", "0" * 64), ("b", None)), images)
    result.write_text("label\n")
    source.write_text("image\n")
    write_provenance(
        images=images, sources=[source, folder], results=[result],
        config=config or json.dumps(Config().model_dump(mode="json")), steps='{"index.make_folds": "abc"}',
        provenance=folder / "provenance.json",
    )  # fmt: skip
    told: dict[str, Any] = read_json(folder / "provenance.json")
    return told


def test_it_tells_results_inputs_code_settings_and_environment(tmp_path: Path) -> None:
    told = written(tmp_path)
    result, source = tmp_path / "labels.csv", tmp_path / "listed.csv"
    assert told["results"] == {result.as_posix(): sha256_of(result)}
    assert told["inputs"]["images"] == 2
    assert told["inputs"]["sources"] == {source.as_posix(): sha256_of(source)}, "a folder has no digest of its own"
    assert told["code"] == {"index.make_folds": "abc"}
    assert told["seed"] == 1 and told["settings"]["classify"]["train_fold"]["epochs"] == 20
    assert told["packages"] == {name: found.version for name, found in installed().items()}
    assert told["hardware"]["cores"] and told["environment"]["python"]


def test_the_weights_in_packages_are_told(tmp_path: Path) -> None:
    packaged = written(tmp_path)["weights"]["packaged"]
    names = list(packaged)
    assert names[0] == "buffycoat/crop/segmenter.safetensors" and names[1].startswith("efficientnet_lite0")
    assert packaged[names[0]] == SHIPPED_SHA256


def test_a_weights_file_of_the_settings_is_hashed_and_an_absent_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    named = {"classify": {"train_fold": {"weights": str(tmp_path / "mine.safetensors")}}}
    absent = {"crop": {"crop_cells": {"weights": "nowhere/cpsam"}}}
    told = written(tmp_path, json.dumps({**named, **absent}))
    digest = hashlib.sha256(b"weights").hexdigest()
    found = told["weights"]["configured"]
    assert found["classify.train_fold.weights"]["files"] == {"mine.safetensors": digest}
    assert found["crop.crop_cells.weights"] == {
        "named": "nowhere/cpsam", "files": {}, "missing": "not there when this was written",
    }  # fmt: skip


def test_the_digest_of_images_is_blind_to_their_order_and_sees_their_bytes() -> None:
    one, other = table(("a", "1"), ("b", "2")), table(("b", "2"), ("a", "1"))
    assert digest_of_images(one) == digest_of_images(other)
    assert len({digest_of_images(t) for t in (one, table(("a", "1"), ("b", "3")), table(("a", "1"), ("b", None)))}) == 3


def test_nonsense_in_an_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--config: not valid JSON"):
        written(tmp_path, "{")
    with pytest.raises(InputError, match="--config: not a JSON object"):
        written(tmp_path, "[]")


def test_the_rules_of_the_workflow_are_the_settings_of_its_stages() -> None:
    names = step_settings()
    assert next(iter(names)) == "simulate.draw_smears" and "report.compare_recipes" in names
    assert "classify.recipe" not in names
