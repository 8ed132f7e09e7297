"""Settings of the stage `refine`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from buffycoat.settings import Settings

Gate = Literal["spikiness", "box", "mahalanobis"]
"""Biological filters of phase 3; host class and host probability are always checked."""


class MeasureCells(Settings):
    """How shape, size and colour of a cell are measured."""

    nucleus: Literal["carried", "grey"] = Field(
        default="carried",
        description="`carried`: the nucleus of the mask, and `grey` where the mask has none; `grey`: pixels darker than"
        " the midpoint of a 2-means split of the cell's grey levels (public implementation).",
    )
    min_area_px: float = Field(
        default=50.0,
        ge=1,
        description="Cells whose outline encloses less are not measured, pixels of the source image (paper: 50).",
    )


class Rule(Settings):
    """How one rare class is found again among the classes that it is mistaken for."""

    rescued: str = Field(description="Code of the rescued class.")
    hides_in: tuple[str, ...] = Field(min_length=1, description="Host classes: the labels that it may replace.")
    beta: float = Field(
        gt=0, description="Phase 1: a candidate has beta * p > q, q the probability of the host; unitless."
    )
    tau: float = Field(ge=0, lt=1, description="Phase 2: kept if branch B gives the class a probability above tau.")
    max_host_probability: float = Field(
        default=1.0, gt=0, le=1, description="Phase 3: kept if q lies below; at 1 every q passes."
    )
    gates: tuple[Gate, ...] = Field(default=(), description="Phase 3: biological filters, all of which must pass.")
    min_spikiness: float = Field(
        default=1.35, ge=1, description="Gate `spikiness`: largest over median radius of the outline must exceed it."
    )

    @model_validator(mode="after")
    def _not_its_own_host(self) -> Rule:
        if self.rescued in self.hides_in:
            raise ValueError(f"{self.rescued} cannot hide in itself; take it out of hides_in")
        return self


PROLYMPHOCYTE = Rule(
    rescued="PLY", hides_in=("LY",), beta=150, tau=0.35, max_host_probability=0.8, gates=("spikiness",)
)
PLASMA_CELL = Rule(rescued="PC", hides_in=("LY", "VLY"), beta=3750, tau=0.01, gates=("box", "mahalanobis"))


class FitReference(Settings):
    """The rules, and how their references are fitted and their use is decided, on training cells alone."""

    rules: tuple[Rule, ...] = Field(
        default=(PROLYMPHOCYTE, PLASMA_CELL),
        description="In order: the first rule that a cell passes labels it (Algorithm 1 of the paper).",
    )
    switch: Literal["always", "when_it_helps"] = Field(
        default="when_it_helps",
        description="`always`: every rule that could be fitted is on (paper); `when_it_helps`: a rule is on if it"
        " raises the out-of-fold macro-F1, its references fitted on the other folds.",
    )
    min_gain: float = Field(
        default=0.0, ge=0, lt=1, description="`when_it_helps`: the rise of macro-F1 that must be exceeded."
    )
    min_cells: int = Field(
        default=8, ge=2, description="Fewest training cells of the rescued class that a reference is fitted on."
    )
    own_cells: int = Field(
        default=40,
        ge=2,
        description="From so many cells on a covariance is the class's own (Ledoit-Wolf); with n fewer, n / own_cells"
        " of it is, and the rest is the pooled within-class covariance of all classes.",
    )
    distance_quantile: float = Field(
        default=0.95,
        gt=0,
        lt=1,
        description="Gate `mahalanobis`: share of training cells of the rescued class, each measured from a reference"
        " fitted without its fold, that lie within the largest distance.",
    )
    box_quantile: float = Field(
        default=0.99, gt=0, lt=1, description="Gate `box`: central share of the training cells that each range holds."
    )
    box_margin: float = Field(
        default=0.5, ge=0, description="Gate `box`: each range is widened by so many within-class standard deviations."
    )

    @model_validator(mode="after")
    def _no_host_is_rescued(self) -> FitReference:
        rescued = [rule.rescued for rule in self.rules]
        twice = sorted({code for code in rescued if rescued.count(code) > 1})
        if twice:
            raise ValueError(f"more than one rule rescues {', '.join(twice)}; keep one")
        hosts = sorted({host for rule in self.rules for host in rule.hides_in} & set(rescued))
        if hosts:
            raise ValueError(f"{', '.join(hosts)} is rescued and so cannot be a host; take it out of hides_in")
        return self


class RefineLabels(Settings):
    """Whether the fitted rules are applied."""

    mode: Literal["algorithm_1", "off"] = Field(
        default="algorithm_1",
        description="`algorithm_1`: the rules that fit_reference switched on; `off`: branch A's label stays.",
    )


class FindSuspects(Settings):
    """From where on an image is one that a person should look at; it changes no label."""

    energy_temperature: float = Field(
        default=1.0, gt=0, description="T of the energy -T logsumexp(z / T) of branch A's logits (arXiv 2010.03759: 1)."
    )
    components: int = Field(
        default=64,
        ge=1,
        description="Principal components of the embeddings that distances are measured in, at most: more than a rare"
        " class has cells, few enough that the shared covariance is well known.",
    )
    energy_quantile: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Suspect if at least this share of the training images has a lower energy. 0.99 is a list's length,"
        " not a test: it takes about one training image in a hundred, and more of others where those differ.",
    )
    distance_quantile: float = Field(
        default=0.99, gt=0, le=1, description="The same of the distance of the embedding to the nearest class."
    )
    min_disagreement: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Suspect if the Jensen-Shannon divergence of the branches reaches this, bits. 0.8: both are about"
        " 97 % sure, each of another class (0.5: about 89 %).",
    )


class Refine(Settings):
    """Settings of the stage."""

    measure_cells: MeasureCells = MeasureCells()
    fit_reference: FitReference = FitReference()
    refine_labels: RefineLabels = RefineLabels()
    find_suspects: FindSuspects = FindSuspects()
