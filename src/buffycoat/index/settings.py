"""Settings of the stage `index`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from buffycoat.core.settings import Emptied, Settings, Texts
from buffycoat.index.places import compiled_pattern


class Columns(Settings):
    """Names of a table's columns, or of the parts of the paths below class folders."""

    image: str = Field(default="image", description="Path of the image, relative to the root.")
    label: str = Field(default="label", description="The expert's label; may be empty.")
    split: str | None = Field(
        default="split", description="Tells training from test rows; null: everything is for training."
    )
    group: str | None = Field(default=None, description="Patient (or slide); null: `group` where the table has it.")
    pattern: str | None = Field(
        default=None,
        description="For class folders: what the names in a path are, e.g. `<group>/<label>/<file>` where patients are"
        " folders above the classes; `<split>` tells training from test, `*` is any name. None: `<label>/<file>`,"
        " below train/, val/ and test/ where there are such.",
    )

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled_pattern(pattern)
        return pattern


class MakeIndex(Settings):
    """Where a table's images lie, and which of them are test images."""

    root: str | None = Field(
        default=None,
        description="For a table: folder that image paths are relative to; None: the table's folder. For boxes on"
        " fields: the folder of the fields; None: they are beside the annotations.",
    )
    test_values: Annotated[Literal["auto"] | tuple[str, ...], Texts] = Field(
        default="auto",
        description="Values of the split column that mean test, in any case; every other value means training. `auto`:"
        " words such as train, val, test and holdout are understood; any other word beside them is an error.",
    )


class MakeLabels(Settings):
    """What the experts say of the listed images: labels, classes, patients."""

    test_labels: str | None = Field(
        default=None,
        description="For WBCBench's folder: a CSV `ID,labels` with the answers of the test images, for the report"
        " alone.",
    )
    classes: Annotated[Literal["auto"] | tuple[str, ...], Texts] = Field(
        default="auto",
        description="Class codes in their order. `auto`: the thirteen of WBCBench; for a table or class folders, those"
        " of them that occur among the training labels, or the labels themselves where none of them does.",
    )
    label_aliases: Annotated[dict[str, str | None], Texts, Emptied] = Field(
        default_factory=dict,
        description="The data's own spellings, mapped to class codes, e.g. {neutrophil: SNE}; null leaves the images of"
        " a label out of training, e.g. {smudge cell: null}.",
    )
    names: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Labels that are plain names of the thirteen classes, e.g. `Segmented neutrophils`. `auto`: become"
        " codes where every label can; `always`: those that can; `never`: stay as they are.",
    )
    groups: Literal["given", "pseudo_patients", "none"] = Field(
        default="given",
        description="`given`: the column `group`; `pseudo_patients`: recovered from the order of the labelled IDs"
        " (WBCBench, docs/method.md), to keep folds honest only; `none`: every image for itself. A preset's"
        " `pseudo_patients` holds for WBCBench's folder alone; for other data it means `given`.",
    )
    group_pattern: str | None = Field(
        default=None,
        description="For boxes on fields: a regular expression that finds the slide or patient in the field's name,"
        " e.g. `^[^_]+` (what stands before the first _) or `^([^/]+)/` (the folder). None: every field is a group.",
    )

    patients_in_test: Literal["keep", "drop"] = Field(
        default="keep",
        description="Training images of patients (groups) who have test images too: `keep` them, with a warning, or"
        " `drop` them from training (status patient_in_test). Test images always stay.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> MakeLabels:
        if self.classes != "auto" and len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a code is named twice")
        if any(set("{}") & set(code) for code in self.classes):
            raise ValueError("classes: a code with braces, which mean something else to Snakemake; rename it")
        try:
            re.compile(self.group_pattern or "")
        except re.error as problem:
            raise ValueError(f"group_pattern: not a regular expression ({problem})") from None
        return self

    def answers(self) -> list[str]:
        """Return the file of test labels in a list, an empty one where there is none."""
        return [self.test_labels] if self.test_labels else []


class MakeFolds(Settings):
    """How the trainable images are divided."""

    folds: int = Field(default=5, ge=2, description="Number of folds; the paper uses 5.")


class Index(Settings):
    """Settings of the stage."""

    columns: Columns = Field(
        default=Columns(),
        description="For a table: the names of its columns, `image`, `label`, `split` and `group` (the patient).",
    )
    make_index: MakeIndex = MakeIndex()
    make_labels: MakeLabels = MakeLabels()
    make_folds: MakeFolds = MakeFolds()
