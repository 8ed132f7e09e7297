"""Settings of the stage `index`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from buffycoat.core.settings import Emptied, Settings
from buffycoat.data.cell_types import CELL_TYPES


class MakeIndex(Settings):
    """Where the images are listed, which of them are test images, and what counts as a usable image."""

    source: Literal["wbcbench", "table"] = Field(
        default="wbcbench",
        description="`wbcbench`: the WBCBench 2026 challenge; `table`: any CSV or Parquet file of images.",
    )
    root: str | None = Field(
        default=None,
        description="Folder that image names are relative to; for `wbcbench` the folder with phase1/, phase2/ and the"
        " four CSVs. None: the folder of the table.",
    )
    table: str | None = Field(default=None, description="For `table`: the CSV or Parquet file, one row per image.")
    image_column: str = Field(default="image", description="Column of the image's path, relative to the root.")
    split_column: str | None = Field(
        default="split", description="Column that tells training from test rows; None: everything is for training."
    )
    test_values: tuple[str, ...] = Field(
        default=("test",), description="Values of the split column that mean test; every other value means training."
    )
    max_pixels: int = Field(
        default=50_000_000, ge=1, description="Images with more pixels are not decoded (status too_large)."
    )
    max_megabytes: float = Field(default=200.0, gt=0, description="Files larger than this are not read, 10^6 bytes.")

    @model_validator(mode="after")
    def _complete(self) -> MakeIndex:
        if self.source == "table" and not self.table:
            raise ValueError("source 'table' needs `table`: the CSV or Parquet file of images")
        if self.source == "wbcbench" and not self.root:
            raise ValueError("source 'wbcbench' needs `root`: the folder with phase1/, phase2/ and the four CSVs")
        return self

    def lists(self) -> list[str]:
        """Return the files that list the images."""
        if self.source == "table":
            return [str(self.table)]
        names = ("phase1_label.csv", "phase2_train.csv", "phase2_eval.csv", "phase2_test.csv")
        return [f"{self.root}/{name}" for name in names]

    def folders(self) -> list[str]:
        """Return the folders of images that Snakemake watches for changes."""
        return [] if self.source == "table" else [f"{self.root}/phase1", f"{self.root}/phase2"]


class MakeLabels(Settings):
    """What the experts say of the listed images: labels, classes, patients."""

    test_labels: str | None = Field(
        default=None,
        description="For `wbcbench`: a CSV `ID,labels` with the answers of the test images, for the report alone.",
    )
    label_column: str = Field(default="label", description="Column of the expert's label; may be empty.")
    group_column: str | None = Field(
        default=None, description="Column of the patient (or slide); None: `group` where the table has it."
    )
    classes: Literal["auto"] | tuple[str, ...] = Field(
        default="auto",
        description="Class codes in their order. `auto`: the thirteen of WBCBench; for `table`, those of them that"
        " occur among the training labels.",
    )
    label_aliases: Annotated[dict[str, str], Emptied] = Field(
        default_factory=dict, description="The data's own spellings, mapped to class codes, e.g. {neutrophil: SNE}."
    )
    groups: Literal["given", "pseudo_patients", "none"] = Field(
        default="given",
        description="`given`: the group column; `pseudo_patients`: recovered from the order of the labelled IDs"
        " (WBCBench, docs/method.md), to keep folds honest only; `none`: every image for itself.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> MakeLabels:
        if self.classes != "auto" and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a code is named twice")
        return self

    def answers(self) -> list[str]:
        """Return the file of test labels in a list, an empty one where there is none."""
        return [self.test_labels] if self.test_labels else []

    def possible_classes(self) -> list[str]:
        """Return the codes that the classes of the data set are among, in their order, whatever the labels are."""
        return list(CELL_TYPES) if self.classes == "auto" else list(self.classes)


class MakeFolds(Settings):
    """How the trainable images are divided."""

    folds: int = Field(default=5, ge=2, description="Number of folds; the paper uses 5.")


class Index(Settings):
    """Settings of the stage."""

    make_index: MakeIndex = MakeIndex(root="results/0_simulate/smears")
    make_labels: MakeLabels = MakeLabels()
    make_folds: MakeFolds = MakeFolds()
