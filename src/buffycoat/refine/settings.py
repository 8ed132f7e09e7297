"""Settings of the stage `refine`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from buffycoat.core.settings import Settings, Texts

Gate = Literal["spikiness", "box", "mahalanobis", "likeness"]
"""Biological filters of phase 3; host class and host probability are always checked."""


class Rule(Settings):
    """How one rare class is found again among the classes that it is mistaken for."""

    rescued: Annotated[str, Texts] = Field(description="Code of the rescued class.")
    hides_in: Annotated[tuple[str, ...], Texts] = Field(
        min_length=1, description="Host classes: the labels that it may replace."
    )
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
        " order: the first rule that a cell passes labels it (Algorithm 1 of the paper); []: branch A's labels stay.",
    )
    thresholds: Literal["given", "fitted"] = Field(
        default="fitted",
        description="`given`: a rule's own (paper); `fitted`: beta, tau and the gates `mahalanobis` and `likeness` are"
        " chosen out of fold, beside a rule's own host probability, spikiness and box.",
    )
    max_harm: float = Field(
        default=0.01, ge=0, le=1, description="`fitted`: largest fall of another class's F1, out of fold."
    )
    switch: Literal["always", "when_it_helps"] = Field(
        default="when_it_helps",
        description="`always`: every rule that could be fitted is on (paper); `when_it_helps`: a rule is on if it"
        " raises the out-of-fold macro-F1, all of it fitted on the other folds, surely enough and harming no class.",
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


class Refine(Settings):
    """Settings of the stage."""

    fit_rules: FitRules = FitRules()
