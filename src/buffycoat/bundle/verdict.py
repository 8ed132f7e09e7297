"""Whether a batch of new images is like the training images: what these were like, and how many of the batch differ."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from buffycoat.bundle.form import Usual

Values = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]
FEWEST = 10
"""Fewer images with pixels give no verdict."""
EXCESS = 0.25
"""A batch is unlike the training images where the share of images outside exceeds that of the training images by more
than this; ours."""
ERRORS = 3.0
"""The same, in standard errors of that share in a batch of this size, where that is more: small batches vary."""
TAIL = 0.01
"""A measure's usual range leaves out this share of a class's training images at either end."""
DISTANCE_TAIL = 0.05
"""The same for the distance from the classes, at the far end."""
FEW = 20
"""Classes with fewer measured images have no range of their own: their last hundredth is chance."""
COMPARISONS = {
    "cell": "no white cell was found",
    "scale": "the cell is smaller or larger than usual",
    "noise": "the crop is noisy",
    "blur": "the crop is blurred",
    "light": "the light or the colour of the background is unusual",
    "colour": "the cell is darker, lighter, redder or bluer than usual",
    "distance": "the picture is farther from every class than usual",
    "probability": "the model is unsure of its label",
}
"""What is compared, and what it means of an image that it lies outside; in the order in which they are told."""
MEASURES = {"scale": ("diameter_px",), "colour": ("cell_level", "red_blue_ratio"), "distance": ("feature_distance",)}
"""The measures with a usual range, by comparison."""
UNLIKE = "these images are UNLIKE those that the model learned from: do not use the labels and counts below"
State = Literal["like", "unlike", "none"]


def measured(crops: pd.DataFrame, noise: pd.DataFrame, shapes: pd.DataFrame, suspects: pd.DataFrame) -> pd.DataFrame:
    """Return what is compared, by image_id, of rows of CROPS, NOISE, MORPHOLOGY and SUSPECTS; NaN where unmeasured."""
    crops, noise, shapes, suspects = (
        frame.set_index("image_id").loc[suspects["image_id"]] for frame in (crops, noise, shapes, suspects)
    )
    found = crops["found"].to_numpy(bool)
    area = np.where(found, crops["area_px"].to_numpy(np.float64), np.nan)
    return pd.DataFrame(
        {
            "cell": ~found,
            "noise": noise["noisy"].to_numpy(bool),
            "blur": noise["blurred"].to_numpy(bool),
            "light": noise["badly_lit"].to_numpy(bool),
            "probability": ["probability" in kinds.split(",") for kinds in suspects["kinds"]],
            "diameter_px": np.sqrt(4 * area / math.pi),
            **{name: shapes[name].to_numpy(np.float64) for name in MEASURES["colour"]},
            "feature_distance": suspects["feature_distance"].to_numpy(np.float64),
        },
        index=suspects.index,
    )


def usual_range(values: Values, classes: Names, low: float, high: float) -> tuple[float, float] | None:
    """Return from which to which value a measure is usual; None without a value.

    Parameters: values (n,), NaN where unmeasured; classes (n,), of each; low, high, the shares that lie below and above
    the range. It reaches over those of all classes: a batch may hold one class alone, and be as usual as any.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    groups = [values[known]]
    groups += [values[known & (classes == name)] for name in np.unique(classes[known].astype(str))]
    bounds = [np.quantile(group, [low, 1 - high]) for k, group in enumerate(groups) if k == 0 or len(group) >= FEW]
    return float(min(least for least, _ in bounds)), float(max(most for _, most in bounds))


def fit_usual(measures: pd.DataFrame, classes: pd.Series) -> Usual:
    """Return what the training images were like.

    Parameters: measures, as `measured` gives them, of the training images; classes, their labels, in the same order.
    """
    labels = classes.to_numpy(object)
    ranges = {}
    for names in MEASURES.values():
        for name in names:
            low, high = (0.0, DISTANCE_TAIL) if name == "feature_distance" else (TAIL, TAIL)
            if found := usual_range(measures[name].to_numpy(np.float64), labels, low, high):
                ranges[name] = found
    if "feature_distance" in ranges:
        ranges["feature_distance"] = (0.0, ranges["feature_distance"][1])
    diameters = measures["diameter_px"].dropna()
    outer = outside(measures, ranges)
    return Usual(
        images=len(measures),
        diameter_px=None if diameters.empty else float(diameters.median()),
        ranges=ranges,
        shares={name: float(outer[name].mean()) if len(outer) else 0.0 for name in outer},
    )


def outside(measures: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Return by comparison whether each image lies outside of what is usual; what was not measured does not."""
    found = pd.DataFrame(index=measures.index)
    for comparison in COMPARISONS:
        if comparison not in MEASURES:
            found[comparison] = measures[comparison].astype(bool)
            continue
        found[comparison] = False
        for name in MEASURES[comparison]:
            if name in ranges:
                found[comparison] |= (measures[name] < ranges[name][0]) | (measures[name] > ranges[name][1])
    return found


def differences(measures: pd.DataFrame, usual: Usual) -> list[str]:
    """Return, per image, the comparisons by which it lies outside, joined by commas."""
    rows = outside(measures, usual.ranges).to_dict("records")
    return [",".join(name for name in COMPARISONS if row[name]) for row in rows]


@dataclass(frozen=True)
class Comparison:
    """One way in which a batch is compared with the training images."""

    name: str
    meaning: str
    images: int
    """Images of the batch that lie outside."""
    share: float
    """Their share, 0..1."""
    training_share: float
    """The share of the training images that lies outside, 0..1."""
    limit: float
    """The batch is unlike the training images where its share is larger; at 1 it cannot be."""
    beyond: bool


@dataclass(frozen=True)
class Verdict:
    """Whether a batch is like the training images."""

    verdict: State
    """`like`, `unlike`, or `none` where there are too few images to tell."""
    images: int
    """Images that were compared: those with pixels."""
    fewest: int
    """Fewer images give no verdict."""
    diameter_px: float | None
    """Median diameter of the cells, source pixels."""
    training_diameter_px: float | None
    """The same of the training images."""
    comparisons: tuple[Comparison, ...]

    def lines(self) -> list[str]:
        """Return what a person reads: the verdict, then every comparison beyond its limit."""
        if self.verdict == "none":
            return [
                f"{self.images} image{'s' * (self.images != 1)} with pixels: fewer than {self.fewest} give no verdict"
                " on whether they are like those that the model learned from"
            ]
        if self.verdict == "like":
            telling = sum(entry.limit < 1 for entry in self.comparisons)
            return [
                f"no difference from the images that the model learned from: {telling} comparisons of"
                f" {self.images} images are within their limits"
            ]
        return [UNLIKE, *(self._clause(entry) for entry in self.comparisons if entry.beyond)]

    def _clause(self, entry: Comparison) -> str:
        sizes = ""
        if entry.name == "scale" and self.diameter_px is not None and self.training_diameter_px is not None:
            sizes = f"; median diameter {self.diameter_px:.0f} px, in training {self.training_diameter_px:.0f} px"
        return (
            f"  {entry.name}: in {entry.images} of {self.images} images {entry.meaning} (training images:"
            f" {100 * entry.training_share:.0f} %, limit {100 * entry.limit:.0f} %{sizes})"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the verdict, its sentences and every comparison, for a file."""
        return {**asdict(self), "sentences": [line.strip() for line in self.lines()]}


def limit_of(training_share: float, images: int) -> float:
    """Return the share of a batch of so many images beyond which it is unlike the training images; it may exceed 1."""
    error = math.sqrt(training_share * (1 - training_share) / max(images, 1))
    return training_share + max(EXCESS, ERRORS * error)


def judge(table: pd.DataFrame, usual: Usual) -> Verdict:
    """Return the verdict on the rows of the table of new images that have pixels."""
    sound = table[table["status"] == "ok"]
    kinds = [names.split(",") for names in sound["unlike"]]
    comparisons = []
    for name, meaning in COMPARISONS.items():
        if name in MEASURES and not set(MEASURES[name]) & set(usual.ranges):
            continue
        count, share = sum(name in names for names in kinds), usual.shares.get(name, 0.0)
        limit, own = limit_of(share, len(sound)), count / max(len(sound), 1)
        beyond = len(sound) >= FEWEST and own > limit
        comparisons.append(Comparison(name, meaning, count, own, share, min(limit, 1.0), beyond))
    diameters = sound["diameter_px"].dropna().astype(float)
    state: State = "unlike" if any(entry.beyond for entry in comparisons) else "like"
    return Verdict(
        verdict=state if len(sound) >= FEWEST else "none",
        images=len(sound),
        fewest=FEWEST,
        diameter_px=None if diameters.empty else float(diameters.median()),
        training_diameter_px=usual.diameter_px,
        comparisons=tuple(comparisons),
    )
