"""Settings of the stage `refine`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from buffycoat.core.settings import Settings

Gate = Literal["spikiness", "box", "mahalanobis", "likeness"]
"""Biological filters of phase 3; host class and host probability are always checked."""
AlternativeWay = Literal["branch_b", "average", "prior_correction", "count_matching", "stacking"]
Share = Annotated[float, Field(gt=0, le=1)]


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
    suppress: bool = Field(
        default=True,
        description="Whether a cell that branch A gives the class itself falls back to the next class and keeps it only"
        " with evidence (paper); otherwise the rule only adds.",
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


class FitRules(Settings):
    """The rules, and how their references are fitted and their use is decided, on training cells alone."""

    rules: Literal["found"] | tuple[Rule, ...] = Field(
        default="found",
        description="`found`: a rule for each rare class that branch A, out of fold, takes for others; or a list, in"
        " order: the first rule that a cell passes labels it (Algorithm 1 of the paper).",
    )
    rare_below: float = Field(
        default=0.03, gt=0, le=1, description="`found`: share of the labelled images below which a class is rare."
    )
    host_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="`found`: share of a rare class's mistaken cells from which on a class is one that it hides in.",
    )
    thresholds: Literal["given", "fitted"] = Field(
        default="fitted",
        description="`given`: a rule's own (paper); `fitted`: beta, tau and the gates `mahalanobis` and `likeness` are"
        " chosen out of fold, beside a rule's own host probability, spikiness and box.",
    )
    kept_shares: tuple[Share, ...] = Field(
        default=(1.0, 0.9, 0.75, 0.5, 0.25),
        min_length=1,
        description="`fitted`: shares of the class's mistaken cells that a threshold may let pass; one share per check"
        " is chosen, or the check is left out.",
    )
    max_harm: float = Field(
        default=0.01, ge=0, le=1, description="`fitted`: largest fall of another class's F1, out of fold."
    )
    switch: Literal["always", "when_it_helps"] = Field(
        default="when_it_helps",
        description="`always`: every rule that could be fitted is on (paper); `when_it_helps`: a rule is on if it"
        " raises the out-of-fold macro-F1, all of it fitted on the other folds, surely enough and harming no class.",
    )
    min_gain: float = Field(
        default=0.001, ge=0, lt=1, description="`when_it_helps`: the rise of macro-F1 that must be exceeded."
    )
    level: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="`when_it_helps`: largest share of resamples of patients, of those that hold the class, in which"
        " macro-F1 does not rise by a rule alone; shared among the rules that are tried (Holm).",
    )
    resamples: int = Field(default=1000, ge=100, description="Bootstrap resamples of patients.")
    min_groups: int = Field(
        default=2, ge=1, description="Fewest patients, where they are known, that hold the class in training."
    )
    min_cells: int = Field(
        default=5, ge=2, description="Fewest training cells of the rescued class that a reference is fitted on."
    )
    covariance: Literal["ledoit_wolf", "robust"] = Field(
        default="ledoit_wolf",
        description="`robust`: least covariance determinant (doi 10.1080/00401706.1999.10485670), where the class has"
        " ten cells per feature; outlying cells of the class then do not widen it.",
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
    def _no_host_is_suppressed(self) -> FitRules:
        if self.rules == "found":
            if self.thresholds == "given":
                raise ValueError("rules that are found have no thresholds of their own; set thresholds: fitted")
            return self
        unfitted = [rule.rescued for rule in self.rules if "likeness" in rule.gates and self.thresholds == "given"]
        if unfitted:
            raise ValueError(f"the gate likeness of {', '.join(unfitted)} is only ever fitted; set thresholds: fitted")
        rescued = [rule.rescued for rule in self.rules]
        twice = sorted({code for code in rescued if rescued.count(code) > 1})
        if twice:
            raise ValueError(f"more than one rule rescues {', '.join(twice)}; keep one")
        suppressed = {rule.rescued for rule in self.rules if rule.suppress}
        hosts = sorted({host for rule in self.rules for host in rule.hides_in} & suppressed)
        if hosts:
            raise ValueError(
                f"{', '.join(hosts)} is rescued and suppressed, and so cannot be a host; take it out of hides_in"
            )
        return self


class RefineLabels(Settings):
    """Whether the fitted rules are applied."""

    mode: Literal["algorithm_1", "off"] = Field(
        default="algorithm_1",
        description="`algorithm_1`: the rules that fit_rules switched on; `off`: branch A's label stays.",
    )


class TryAlternatives(Settings):
    """Which simple ways are tried beside the rules (`snakemake ablation`)."""

    ways: tuple[AlternativeWay, ...] = Field(
        default=("branch_b", "average", "prior_correction", "count_matching", "stacking"),
        description="`branch_b` alone; `average` of both branches; branch A with `prior_correction` (logit adjustment"
        " after training) or `count_matching`; `stacking` of both by logistic regression.",
    )


class Refine(Settings):
    """Settings of the stage."""

    fit_rules: FitRules = FitRules()
    refine_labels: RefineLabels = RefineLabels()
    try_alternatives: TryAlternatives = TryAlternatives()
