"""Settings of the stage `index`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from buffycoat.core.settings import Emptied, Settings


class MakeIndex(Settings):
    """How images are listed, which of them are test images, and what counts as a usable image."""

    root: str | None = Field(
        default=None, description="For a table: folder that image paths are relative to. None: the table's folder."
    )
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


class MakeLabels(Settings):
    """What the experts say of the listed images: labels, classes, patients."""

    test_labels: str | None = Field(
        default=None,
        description="For WBCBench's folder: a CSV `ID,labels` with the answers of the test images, for the report"
        " alone.",
    )
    label_column: str = Field(default="label", description="Column of the expert's label; may be empty.")
    group_column: str | None = Field(
        default=None, description="Column of the patient (or slide); None: `group` where the table has it."
    )
    classes: Literal["auto"] | tuple[str, ...] = Field(
        default="auto",
        description="Class codes in their order. `auto`: the thirteen of WBCBench; for a table or class folders, those"
        " of them that occur among the training labels, or the labels themselves where none of them does.",
    )
    label_aliases: Annotated[dict[str, str], Emptied] = Field(
        default_factory=dict, description="The data's own spellings, mapped to class codes, e.g. {neutrophil: SNE}."
    )
    groups: Literal["given", "pseudo_patients", "none"] = Field(
        default="given",
        description="`given`: the group column; `pseudo_patients`: recovered from the order of the labelled IDs"
        " (WBCBench, docs/method.md), to keep folds honest only; `none`: every image for itself. A preset's"
        " `pseudo_patients` holds for WBCBench's folder alone; for other data it means `given`.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> MakeLabels:
        if self.classes != "auto" and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a code is named twice")
        if any(set("{}") & set(code) for code in self.classes):
            raise ValueError("classes: a code with braces, which mean something else to Snakemake; rename it")
        return self

    def answers(self) -> list[str]:
        """Return the file of test labels in a list, an empty one where there is none."""
        return [self.test_labels] if self.test_labels else []


class MakeFolds(Settings):
    """How the trainable images are divided."""

    folds: int = Field(default=5, ge=2, description="Number of folds; the paper uses 5.")


class Index(Settings):
    """Settings of the stage."""

    make_index: MakeIndex = MakeIndex()
    make_labels: MakeLabels = MakeLabels()
    make_folds: MakeFolds = MakeFolds()
