from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from buffycoat.core.errors import InputError
from buffycoat.core.files import write_json
from buffycoat.core.settings import Statistics
from buffycoat.data.methods import RECIPE_NAMES
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.index import CLASSES, FOLDS, TEST_LABELS
from buffycoat.data.tables.refine import ALTERNATIVES
from buffycoat.data.tables.report import ABLATION
from buffycoat.report.compare_recipes import by_class, compare_recipes, comparison, difference_text, score_text, verdict
from buffycoat.report.settings import CompareRecipes
from tests.index_tables import write_index

EVIL = "<b>LY"
CODES = ["BA", EVIL, "PC"]
IDS = [f"{k}" for k in range(60)]


def write_recipes(folder: Path) -> None:
    """Two recipes on 40 training and 20 test images (15 of known label); one class is named like an attack."""
    rng = np.random.default_rng(0)
    labels = [CODES[k % 3 % 2 if k % 7 else 2] for k in range(60)]
    images = pd.DataFrame({"image_id": IDS, "role": ["train"] * 40 + ["test"] * 20, "status": "ok"})
    images["label"] = [label if k < 40 else None for k, label in enumerate(labels)]
    images["group"] = [f"p{k // 4}" if k < 40 else None for k in range(60)]
    write_index(images, folder)
    TEST_LABELS.write(pd.DataFrame({"image_id": IDS[40:55], "label": labels[40:55]}), folder / "test_labels.parquet")
    classes = pd.DataFrame({"code": CODES, "name": CODES, "position": range(3)}).assign(images=9, groups=None)
    CLASSES.write(classes, folder / "classes.parquet")
    FOLDS.write(pd.DataFrame({"image_id": IDS[:40], "fold": [k // 4 % 2 for k in range(40)]}), folder / "folds.parquet")
    numbers = np.array([CODES.index(label) for label in labels])
    for fold in (0, 1):
        held = np.array([k >= 40 or k // 4 % 2 == fold for k in range(60)])
        rows = pd.DataFrame({"image_id": np.repeat(np.array(IDS, object)[held], 2), "view": [0, 1] * int(held.sum())})
        values = rng.normal(0, 1, (len(rows), 3))
        values[np.arange(len(rows)), np.repeat(numbers[held], 2)] += 1
        rows = rows.assign(fold=fold, out_of_fold=rows["image_id"].astype(int) < 40)
        LOGITS.write(rows.assign(**dict(zip(CODES, values.T, strict=True))), folder / f"logits_{fold}.parquet")
    for recipe, sharp in (("focal", 1.0), ("ldam", 3.0)):
        chances = rng.dirichlet([1, 1, 1], 60) + sharp * np.eye(3)[numbers] * rng.random((60, 1))
        table = pd.DataFrame(chances / chances.sum(axis=1, keepdims=True), columns=CODES)
        table.insert(0, "image_id", IDS)
        table.insert(1, "source", ["out_of_fold"] * 40 + ["fold_mean"] * 20)
        PROBABILITIES.write(table, folder / f"{recipe}.parquet")
    write_json({"temperature": 1.5}, folder / "calibration.json")
    rules = pd.DataFrame({"image_id": IDS, "way": "rules", "label": labels})
    ALTERNATIVES.write(pd.concat([rules, rules.assign(way="branch_b", label=CODES[0])]), folder / "after.parquet")


def compare(
    folder: Path, recipes: tuple[str, ...] = ("focal", "ldam"), out: str = "ablation",
    restorations: tuple[str, ...] = (), restored: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    compare_recipes(
        images=folder / "images.parquet", labels=folder / "labels.parquet", test_labels=folder / "test_labels.parquet",
        classes=folder / "classes.parquet", folds=folder / "folds.parquet", recipe=recipes[0],
        probabilities=[folder / "focal.parquet", folder / "ldam.parquet"],
        logits=[folder / f"logits_{fold}.parquet" for fold in (0, 1)], calibration=folder / "calibration.json",
        alternatives=folder / "after.parquet", restoration="pix2pix",
        restored=[folder / f"{name}.parquet" for name in restored],
        ablation=folder / f"{out}.parquet", csv=folder / f"{out}.csv", page=folder / f"{out}.html", seed=1,
        data="cells", statistics=Statistics(resamples=150),
        settings=CompareRecipes(recipes=list(recipes), restorations=list(restorations)),  # type: ignore[arg-type]
    )  # fmt: skip
    return folder / f"{out}.parquet"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    write_recipes(folder)
    compare(folder)
    return folder


def test_the_table_has_every_recipe_and_both_parts(compared: Path) -> None:
    table = ABLATION.read(compared / "ablation.parquet")
    overall = table[table["class"] == "all"]
    lines = overall.drop_duplicates(["part", "recipe", "variant"])[["recipe", "variant"]].to_numpy().tolist()
    one_part = [["focal", "single_folds"], ["focal", "one_view"], ["focal", "all_views"], ["ldam", "all_views"]]
    one_part += [["rules", "after"], ["branch_b", "after"]]
    assert lines == one_part * 2
    assert overall.groupby("part")["support"].unique().map(list).to_dict() == {"out_of_fold": [40], "test": [15]}
    probabilities = PROBABILITIES.read(compared / "ldam.parquet").set_index("image_id")[CODES]
    answers = TEST_LABELS.read(compared / "test_labels.parquet").set_index("image_id")["label"]
    accuracy = (probabilities.loc[answers.index].idxmax(axis=1) == answers).mean()
    row = overall[(overall["recipe"] == "ldam") & (overall["part"] == "test") & (overall["metric"] == "accuracy")]
    assert row["value"].item() == pytest.approx(accuracy)
    pooled = overall[overall["variant"] != "single_folds"]
    assert pooled[["low", "high", "difference", "difference_low", "difference_high"]].notna().all(axis=None)
    assert table.groupby("recipe")["class"].agg(set).map(len).to_dict() == {
        "focal": 4,
        "ldam": 4,
        "rules": 4,
        "branch_b": 4,
    }


def test_the_spreadsheet_has_a_line_per_recipe(compared: Path) -> None:
    sheet = pd.read_csv(compared / "ablation.csv")
    assert sheet["variant"].tolist() == ["single_folds", "one_view", "all_views", "all_views", "after", "after"]
    assert sheet["out_of_fold_macro_f1"].iloc[4] == sheet["test_macro_f1"].iloc[4] == 1  # the true labels
    sheet = sheet.iloc[:4]
    table = ABLATION.read(compared / "ablation.parquet")
    wanted = table[(table["recipe"] == "ldam") & (table["part"] == "test") & (table["metric"] == "macro_f1")]
    assert sheet["test_macro_f1"].iloc[-1] == pytest.approx(wanted["value"].item())
    assert sheet["test_macro_f1_difference_low"].iloc[-1] == pytest.approx(wanted["difference_low"].item())
    assert sheet["out_of_fold_macro_f1_sd"].notna().tolist() == [True, False, False, False]


class Tags(HTMLParser):
    """Collects tags, and what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset") and tag != "a"]


def test_the_page_is_self_contained_and_escaped(compared: Path) -> None:
    text = (compared / "ablation.html").read_text(encoding="utf-8")
    parsed = Tags()
    parsed.feed(text)
    assert parsed.fetched == [] and "script" not in parsed.tags and "url(" not in text
    assert EVIL not in text and "&lt;b&gt;LY" in text
    assert parsed.tags.count("table") == 8, "scores and twice classes of two parts, and what the lines are"
    assert "patients (out of fold), images (test)" in text and RECIPE_NAMES["ldam"].split(":")[0] in text


def test_unequal_lists_and_tables_of_other_images_are_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 recipes, but 2 tables"):
        compare(compared, ("focal",), "broken")
    write_recipes(tmp_path)
    table = PROBABILITIES.read(tmp_path / "ldam.parquet")
    PROBABILITIES.write(table.iloc[1:], tmp_path / "ldam.parquet")
    with pytest.raises(InputError, match="ldam.parquet: 1 rows lost"):
        compare(tmp_path)
    assert not (tmp_path / "ablation.parquet").exists() and not (compared / "broken.parquet").exists()


def test_without_test_labels_there_is_one_part(tmp_path: Path) -> None:
    write_recipes(tmp_path)
    TEST_LABELS.write(pd.DataFrame({"image_id": [], "label": []}, dtype="str"), tmp_path / "test_labels.parquet")
    assert set(ABLATION.read(compare(tmp_path))["part"]) == {"out_of_fold"}
    assert "Scores, test" not in (tmp_path / "ablation.html").read_text()


def test_the_colour_says_whether_the_interval_holds_zero() -> None:
    row = {"value": 0.5, "sd": None, "low": 0.4, "high": 0.6, "difference": 0.1}
    assert verdict({"difference_low": 0.01, "difference_high": 0.2}) == "good"
    assert verdict({"difference_low": -0.2, "difference_high": -0.1}) == "badly"
    assert verdict({"difference_low": -0.2, "difference_high": 0.1}) == verdict({"difference_low": None}) == ""
    assert (
        score_text(row) == "0.5000 [0.400, 0.600]" and score_text({**row, "low": None, "sd": 0.1}) == "0.5000 ± 0.1000"
    )
    assert difference_text({**row, "difference_low": -0.1, "difference_high": 0.3}) == "+0.1000 [-0.100, +0.300]"


def test_the_page_marks_the_main_recipe_and_the_best_of_a_class(compared: Path) -> None:
    table = ABLATION.read(compared / "ablation.parquet")
    lines = comparison(table, "test", "focal")
    assert [line["main"] for line in lines] == [False, False, True, False, False, False] and lines[0][
        "difference"
    ] == ""
    for line in by_class(table, "out_of_fold", ["focal", "ldam"], CODES):
        values = [float(cell["value"]) for cell in line["cells"]]
        assert all(cell["best"] == (float(cell["value"]) == max(values)) for cell in line["cells"])


def test_every_recipe_is_compared_by_default_and_none_twice() -> None:
    assert CompareRecipes().recipes == list(RECIPE_NAMES)
    with pytest.raises(ValidationError, match="named twice"):
        CompareRecipes(recipes=["ldam", "ldam"])
    with pytest.raises(ValidationError, match="ldm"):
        CompareRecipes(recipes=["ldm"])  # type: ignore[list-item]


def test_restorations_stand_beside_the_main_recipe(compared: Path) -> None:
    table = ABLATION.read(
        compare(compared, out="restored", restorations=("keep", "median"), restored=("ldam", "focal"))
    )
    rows = table[(table["variant"] == "restored") & (table["part"] == "test") & (table["metric"] == "macro_f1")]
    values = rows.set_index("recipe")
    # `median` was given the main recipe's own table: no difference; `keep` another recipe's.
    assert values.index.tolist() == ["keep", "median"]
    assert values.loc["median", ["difference", "difference_low", "difference_high"]].tolist() == [0, 0, 0]
    ldam = table[(table["recipe"] == "ldam") & (table["part"] == "test") & (table["metric"] == "macro_f1")]
    assert values.loc["keep", "value"] == ldam["value"].item()
    page = (compared / "restored.html").read_text(encoding="utf-8")
    assert "Cells restored otherwise" in page and "3x3 median" in page
    assert "Cells restored otherwise" not in (compared / "ablation.html").read_text(encoding="utf-8")


def test_a_restoration_without_its_table_is_refused(compared: Path) -> None:
    with pytest.raises(InputError, match="2 restorations, but 1 tables"):
        compare(compared, out="broken", restorations=("keep", "median"), restored=("ldam",))


def test_a_label_that_is_no_class_is_named(compared: Path, tmp_path: Path) -> None:
    write_recipes(tmp_path)
    table = ALTERNATIVES.read(tmp_path / "after.parquet")
    ALTERNATIVES.write(table.assign(label=table["label"].replace("PC", "P")), tmp_path / "after.parquet")
    with pytest.raises(InputError, match=r"after\.parquet: 'P' is no class here"):
        compare(tmp_path)
