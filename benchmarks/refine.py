"""The refinement on drawn twins of WBCBench, beside the paper's constants and simple ways, and on shuffled labels.

    make benchmark-refine    (three twins: three quarters of an hour of two cores)
    python -m benchmarks.refine --real FOLDER    (adds a finished run on real cells, whose results/ lie in FOLDER)

Writes benchmarks/refine.json. Each twin is a run of the workflow with another seed, patients divided between training
and test; whatever is fitted sees training cells alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
import yaml

from benchmarks.machine import machine
from buffycoat.config import read_layers
from buffycoat.core.files import read_json, write_json
from buffycoat.core.progress import start_logging
from buffycoat.data.labels import class_numbers, learned_rows
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, TEST_LABELS, class_codes, decodable
from buffycoat.data.tables.refine import ALTERNATIVES, REFINED_LABELS
from buffycoat.refine.evidence import read_evidence, training_cells
from buffycoat.refine.fit_rules import fit_rulebook, fit_rules
from buffycoat.refine.fitting import Training
from buffycoat.refine.refine_labels import refine_labels
from buffycoat.refine.rules import read_rulebook
from buffycoat.refine.settings import FitRules
from buffycoat.stats.scores import class_scores, cluster_matrices, confusion, interval, resample, resampled_scores

HERE = Path(__file__).parent
RARE = ("PC", "PLY")
TWIN = {"images": 3000, "patients": 90, "least_per_class": 10}
TARGETS = ("results/8_refine/refined_labels.parquet", "results/8_refine/alternatives.parquet")
BRANCH_A: dict[str, dict[str, Any]] = {
    "focal": {"recipe": "focal"},
    "cross_entropy": {"recipe": "cross_entropy", "train_fold": {"epochs": 15}},
}
"""The demo's branch A, which finds rare cells by itself, and plain training, which does not."""
SHUFFLES = 10
LEAST_RISE, MOST_FALL = 0.3, 0.01


def run_twin(seed: int, branch_a: dict[str, Any], folder: Path) -> Path:
    """Run the workflow of the demo on a twin; return the folder of its results."""
    folder.mkdir(parents=True, exist_ok=True)
    overlay = folder / "twin.yaml"
    content = {"preset": "demo", "seed": seed, "simulate": {"draw_smears": TWIN}, "classify": branch_a}
    overlay.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--set-threads", "train_fold=1", "predict_fold=1"]
    command += ["--snakefile", str(HERE.parent / "Snakefile"), "--directory", str(folder), "--configfile", str(overlay)]
    subprocess.run([*command, "--", *TARGETS], check=True)
    return folder / "results"


def inputs_of(results: Path, restoration: str, recipe: str) -> dict[str, Path]:
    """Return the tables that the refinement reads."""
    return {
        "images": results / "1_index/images.parquet",
        "labels": results / "1_index/labels.parquet",
        "classes": results / "1_index/classes.parquet",
        "folds": results / "1_index/folds.parquet",
        "probabilities": results / "5_classify" / restoration / recipe / "probabilities.parquet",
        "head_probabilities": results / "6_embed/probabilities.parquet",
        "morphology": results / "7_measure/morphology.parquet",
    }


def labels_of_ways(results: Path, inputs: dict[str, Path]) -> dict[str, pd.Series]:
    """Return the label by image of branch A, of each phase and way, and of the paper's constants."""
    labels = REFINED_LABELS.read(results / "8_refine/refined_labels.parquet").set_index("image_id")
    found = {"branch_a": labels["base_label"]}
    for way, rows in ALTERNATIVES.read(results / "8_refine/alternatives.parquet").groupby("way", sort=False):
        found[str(way)] = rows.set_index("image_id")["label"]
    paper = read_layers({"preset": "paper"})[0].refine.fit_rules
    with tempfile.TemporaryDirectory() as name:
        rules, out = Path(name) / "rules.json", Path(name) / "labels.parquet"
        fit_rules(**inputs, rules=rules, settings=paper)
        others = {name: path for name, path in inputs.items() if name != "labels"}
        refine_labels(**others, rules=rules, refined_labels=out)
        found["paper_constants"] = REFINED_LABELS.read(out).set_index("image_id")["label"]
    return found


def true_labels(results: Path, inputs: dict[str, Path]) -> dict[str, pd.DataFrame]:
    """Return the true label and the patient (an image's own name where unknown) by image of each part."""
    images = LABELS.read(inputs["labels"]).set_index("image_id")
    images["patient"] = images["group"].where(images["group"].notna(), "image " + images.index.to_series())
    folds = pd.read_parquet(inputs["folds"])["image_id"]
    tests = TEST_LABELS.read(results / "1_index/test_labels.parquet").set_index("image_id")["label"]
    return {
        "out_of_fold": images.loc[folds, ["label", "patient"]],
        "test": images.loc[tests.index, ["patient"]].assign(label=tests),
    }


def numbers(labels: pd.Series, codes: list[str]) -> np.ndarray:
    """Return class numbers (n,) int64."""
    return labels.map(class_numbers(codes)).to_numpy(np.int64)


def f1_of(true: pd.Series, given: pd.Series, codes: list[str]) -> np.ndarray:
    """Return the F1 of each class, (K,)."""
    return class_scores(confusion(numbers(true, codes), numbers(given.loc[true.index], codes), len(codes)))["f1"]


def rises(part: pd.DataFrame, ways: dict[str, pd.Series], codes: list[str]) -> dict[str, list[float]]:
    """Return, by way, the ends of the 95 % interval of its macro-F1 less branch A's, from the same 1,000 resamples."""
    true, patients = numbers(part["label"], codes), pd.factorize(part["patient"])[0].astype(np.int64)
    present = np.bincount(true, minlength=len(codes)) > 0
    tables = [
        cluster_matrices(true, numbers(given.loc[part.index], codes), patients, len(codes)) for given in ways.values()
    ]
    drawn = [resampled_scores(one, present)["macro_f1"] for one in resample(tables, 1000, 1, "benchmark")]
    base = drawn[list(ways).index("branch_a")]
    return {
        way: [round(end, 4) for end in interval(values - base, 0.95)] for way, values in zip(ways, drawn, strict=True)
    }


def score(results: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    """Return, by part and way: macro-F1, its rise with interval, F1 of rare classes, which other class falls most."""
    codes = class_codes(CLASSES.read(inputs["classes"]))
    ways, others = labels_of_ways(results, inputs), [k for k, code in enumerate(codes) if code not in RARE]
    found: dict[str, Any] = {}
    for part, rows in true_labels(results, inputs).items():
        true, bounds = rows["label"], rises(rows, ways, codes)
        before = f1_of(true, ways["branch_a"], codes)
        found[part] = {}
        for way, given in ways.items():
            f1 = f1_of(true, given, codes)
            fall = (before - f1)[others]
            found[part][way] = {
                "macro_f1": round(float(f1.mean()), 4),
                "rise": [round(float(f1.mean() - before.mean()), 4), *bounds[way]],
                **{code: round(float(f1[codes.index(code)]), 3) for code in RARE if code in codes},
                "largest_fall": [codes[others[int(fall.argmax())]], round(float(fall.max()), 4)],
            }
    return found


def decisions(results: Path) -> list[dict[str, Any]]:
    """Return each rule with its state and reason."""
    rules = read_rulebook(results / "8_refine/rules.json").rules
    return [{"rescued": one.rule.rescued, "hides_in": one.rule.hides_in, "state": one.state, "reason": one.reason}
            for one in rules]  # fmt: skip


def shuffled(training: Training, seed: int) -> Training:
    """Return training cells whose rare labels are dealt anew among all cells that branch A gives to the same class."""
    rng, labels = np.random.default_rng(seed), training.labels.copy()
    base = training.evidence.base_labels()
    for code in np.unique(base):
        rows = np.flatnonzero((base == code) & (training.labels != code))
        every = np.flatnonzero(base == code)
        moved = rng.choice(every, len(rows), replace=False)
        labels[every], labels[moved] = code, training.labels[rows]
    return Training(training.evidence, labels, training.folds, training.patients)


def permutation_test(inputs: dict[str, Path]) -> dict[str, Any]:
    """Return how many rules are switched on where the mistaken labels are dealt at random."""
    images, codes = IMAGES.read(inputs["images"]), class_codes(CLASSES.read(inputs["classes"]))
    ids = decodable(images)["image_id"]
    rows = learned_rows(images, LABELS.read(inputs["labels"]), FOLDS.read(inputs["folds"]), codes)
    tables = {key: inputs[key] for key in ("classes", "probabilities", "head_probabilities", "morphology")}
    training, _ = training_cells(ids, read_evidence(ids, **tables), rows)
    books = [fit_rulebook(shuffled(training, seed), FitRules()) for seed in range(SHUFFLES)]
    tried = [rule for book in books for rule in book.rules if rule.macro_f1_with is not None]
    gains = [float(rule.macro_f1_with or 0) - float(rule.macro_f1_without or 0) for rule in tried if rule.state == "on"]
    return {
        "shuffles": SHUFFLES,
        "rules_tried": len(tried),
        "on": len(gains),
        "gains_of_those_on": np.round(gains, 4).tolist(),
    }


def bars(twins: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rules do to the test cells of each twin, against the bars."""
    rise, fall = [], []
    for twin in twins:
        before, after = twin["scores"]["test"]["branch_a"], twin["scores"]["test"]["rules"]
        rise.append(round(sum(after[code] - before[code] for code in RARE), 3))
        fall.append(after["largest_fall"][1])
    return {
        "rise_of_rare_f1": {"at_least": LEAST_RISE, "found": rise, "mean": round(float(np.mean(rise)), 3)},
        "fall_of_any_other": {"at_most": MOST_FALL, "found": fall, "most": max(fall)},
    }


def judged(results: Path, restoration: str, recipe: str) -> dict[str, Any]:
    """Return everything that is told of one run."""
    inputs = inputs_of(results, restoration, recipe)
    return {
        "scores": score(results, inputs), "rules": decisions(results), "shuffled_labels": permutation_test(inputs),
    }  # fmt: skip


def run_twins(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Return the figures of every twin, under each branch A."""
    found: dict[str, Any] = {"command": "make benchmark-refine", "machine": machine(), "size": TWIN}
    restoration = read_layers({"preset": "demo"})[0].restore.restore_cells.method
    for name, branch_a in BRANCH_A.items():
        twins = {
            f"seed {seed}": judged(run_twin(seed, branch_a, folder / f"seed_{seed}"), restoration, name)
            for seed in seeds
        }
        found[name] = {"classify": branch_a, "bars": bars(list(twins.values())), **twins}
    return found


def main(
    folder: Annotated[Path, typer.Option(help="where the twins run; what is there is kept")] = Path("local/twins"),
    seeds: Annotated[list[int], typer.Option(help="of the twins")] = [1, 2, 3],  # noqa: B006
    real: Annotated[Path | None, typer.Option(help="folder of a finished run on real cells")] = None,
    restoration: Annotated[str, typer.Option(help="the real run's own")] = "median",
    recipe: Annotated[str, typer.Option(help="the real run's main recipe")] = "oversampling",
    name: Annotated[str, typer.Option(help="what the real run is called in the result")] = "laptop",
    result: Annotated[Path, typer.Option()] = HERE / "refine.json",
) -> None:
    """Run the twins, or take the real run, and put the figures into the result file."""
    start_logging()
    figures = read_json(result) if result.exists() else {}
    if real is not None:
        command = (
            f"python -m benchmarks.refine --real FOLDER --restoration {restoration} --recipe {recipe} --name {name}"
        )
        found = {"command": command, "machine": machine(), **judged(real / "results", restoration, recipe)}
        figures["real"] = {**figures.get("real", {}), name: found}
    else:
        figures["twins"] = run_twins(folder, seeds)
    write_json(figures, result)


if __name__ == "__main__":
    typer.run(main)
