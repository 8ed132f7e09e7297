"""A rule's thresholds, chosen on training cells: what a cell is judged by does not come from its own fold.

A distance or log-odds is measured from what was fitted without the cell's fold, a threshold is taken from the values of
mistaken cells of other folds. That is for the choice alone; whether the rule then helps is seen on folds that had no
part in any of this (`switching`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from buffycoat.refine import gates
from buffycoat.refine.algorithm import Labels, suppress
from buffycoat.refine.fitting import MIN_CELLS, Training, fit_likeness, fit_references
from buffycoat.refine.gates import Flags, Values, log_odds, stacked
from buffycoat.refine.rules import FittedRule, Likeness, Reference
from buffycoat.refine.settings import FitRules, Rule

KEPT_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25)
"""Shares of the class's mistaken cells that a threshold may let pass; one share per check is chosen, or the check is
left out. Ours: a few, far apart, for a handful of cells cannot tell finer ones apart."""
MIN_GROUPS = 2
"""Fewest patients, where they are known, that hold the mistaken cells: what one shows may be that patient; ours."""
CHECKS = ("beta", "tau", "mahalanobis", "likeness")
"""What is fitted, in the order in which it is asked."""
Shares = tuple[float | None, ...]
"""For each of CHECKS the share of the mistaken cells that it lets pass; None where it is left out."""


@dataclass(frozen=True)
class Pool:
    """The cells that a rule may relabel: those with a host for y0. `y0` (n,), and which are of the class, (n,)."""

    cells: Training
    y0: Labels
    mistaken: Flags


def pool_of(training: Training, rule: Rule, suppressed: list[str]) -> Pool:
    """Return the cells that branch A, out of fold and with `suppressed` taken out, gives to a host of the rule."""
    y0, _ = suppress(training.evidence, suppressed)
    hosted = np.isin(y0, rule.hides_in)
    cells = training.rows(hosted)
    return Pool(cells, y0[hosted], np.asarray(cells.labels == rule.rescued))


def discriminant(pool: Pool, training: Training, rule: Rule) -> Likeness | None:
    """Return the discriminant of the class's cells against the pool's others; None where either are too few.

    Its cells are the mistaken ones, or, where too few of those are measured, all of the class.
    """
    values = stacked(pool.cells.evidence.features)
    own, others = _whole(values[pool.mistaken]), _whole(values[~pool.mistaken])
    if len(own) < MIN_CELLS:
        own = _whole(stacked(training.evidence.features)[training.labels == rule.rescued])
    if min(len(own), len(others)) < MIN_CELLS:
        return None
    rows = np.concatenate([own, others])
    return fit_likeness(rows, np.arange(len(rows)) < len(own))


def _whole(rows: Values) -> Values:
    """Return the rows (n, k) without a gap."""
    return np.asarray(rows[~np.isnan(rows).any(axis=1)])


def morphology_values(
    pool: Pool, rows: Flags, rule: Rule, references: dict[str, Reference] | None, likeness: Likeness | None
) -> tuple[Values, Values, Flags]:
    """Return the distance, negative, and the log-odds of some rows of the pool; gaps where nothing was fitted.

    And which of them lie in the box, where that is a gate of the rule.
    """
    features, host = pool.cells.evidence.rows(rows).features, pool.y0[rows]
    gap, inside = np.full(len(host), np.nan), np.ones(len(host), bool)
    if "box" in rule.gates:
        inside = np.all([check.passed() for check in gates.box_gate(features, host, references or {})], axis=0)
    distance = gap if references is None else -gates.mahalanobis_gate(features, host, references).value
    return distance, gap if likeness is None else log_odds(features, likeness), inside


def values_of(pool: Pool, rule: Rule, suppressed: list[str], training: Training) -> tuple[Values, Flags]:
    """Return (n, 4), in the order of CHECKS: what each check looks at, more being more like the rescued class.

    And which cells (n,) pass what the rule asks for in any case: an embedding, its host's probability, its own gates.
    Distances, log-odds and boxes come from what was fitted without the cell's fold. A gap passes no check.
    """
    evidence = pool.cells.evidence
    columns = [evidence.column(code) for code in pool.y0]
    q, own = evidence.p[np.arange(len(pool.y0)), columns], evidence.column(rule.rescued)
    with np.errstate(divide="ignore"):
        boosted = np.log(evidence.p[:, own]) - np.log(q)
    found = np.column_stack([boosted, evidence.s[:, own], np.full((len(q), 2), np.nan)])
    passed = gates.verification(evidence.s[:, own], 0.0).passed()
    passed &= gates.host_probability(q, rule.max_host_probability).passed()
    if "spikiness" in rule.gates:
        passed &= gates.spikiness_gate(evidence.features["spikiness"], rule.min_spikiness).passed()
    for fold in np.unique(pool.cells.folds):
        rest = training.rows(training.folds != fold)
        references = fit_references(rest, rule, suppressed)
        likeness = discriminant(pool_of(rest, rule, suppressed), rest, rule)
        rows = np.asarray(pool.cells.folds == fold)
        found[rows, 2], found[rows, 3], inside = morphology_values(pool, rows, rule, references, likeness)
        passed[rows] &= inside
    return found, passed


def threshold(values: Values, share: float) -> float:
    """Return the value that `share` of the values (n,) reach; infinity where there is none."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, 1 - share)) if len(known) else np.inf


def passed_by_share(pool: Pool, values: Values, shares: tuple[float, ...]) -> Iterator[dict[float, Flags]]:
    """Yield, for each of CHECKS, which cells pass at each share, by thresholds from mistaken cells of other folds."""
    folds = pool.cells.folds
    for column in values.T:
        passed = {share: np.zeros(len(column), bool) for share in shares}
        for fold in np.unique(folds):
            rows, known = folds == fold, column[pool.mistaken & (folds != fold)]
            for share in shares:
                passed[share][rows] = column[rows] >= threshold(known, share)
        yield passed


@dataclass(frozen=True)
class Score:
    """What relabelling some cells of the pool does: the rise of macro-F1, the largest fall of a host's F1."""

    gain: float
    harm: float
    changed: int


class Scorer:
    """Scores relabellings of a pool: counts of its hosts (h) and, last, of the rescued class."""

    def __init__(self, pool: Pool, training: Training, rule: Rule, suppressed: list[str]) -> None:
        """Count what branch A gives and gets right, `suppressed` taken out."""
        given, _ = suppress(training.evidence, suppressed)
        codes = [*rule.hides_in, rule.rescued]
        true, got = (np.array(codes)[:, None] == labels for labels in (training.labels, given))
        self.classes, self.mistaken = len(training.evidence.classes), pool.mistaken
        self.host = np.array([codes.index(code) for code in pool.y0], np.int64)
        self.right = np.asarray(pool.y0 == pool.cells.labels)
        self.support, self.guessed, self.hit = (part.sum(axis=1) for part in (true, got, true & got))
        self.f1 = self._f1(self.hit, self.guessed)

    def _f1(self, hit: np.ndarray, guessed: np.ndarray) -> Values:
        return np.asarray(2 * hit / np.maximum(self.support + guessed, 1), np.float64)

    def __call__(self, chosen: Flags) -> Score:
        """Return the score of giving the chosen cells (n,) of the pool to the rescued class."""
        moved = np.bincount(self.host[chosen], minlength=len(self.f1))
        hits = -np.bincount(self.host[chosen & self.right], minlength=len(self.f1))
        changed, hits[-1] = int(moved.sum()), np.count_nonzero(chosen & self.mistaken)
        moved[-1] = -changed
        change = self._f1(self.hit + hits, self.guessed - moved) - self.f1
        return Score(float(change.sum() / self.classes), float(-change[:-1].min()), changed)


def combinations(passed: list[dict[float, Flags]]) -> Iterator[tuple[Shares, Flags]]:
    """Yield every choice of a share per check, all checks but the first possibly left out, and which cells pass it."""
    options: list[list[float | None]] = [[*one] if place == 0 else [*one, None] for place, one in enumerate(passed)]
    for shares in product(*options):
        flags = passed[0][shares[0]].copy()  # type: ignore[index]
        for one, share in zip(passed[1:], shares[1:], strict=True):
            if share is not None:
                flags &= one[share]
        yield shares, flags


def best_shares(passed: list[dict[float, Flags]], score: Scorer, settings: FitRules) -> Shares | None:
    """Return the shares that raise macro-F1 most, of those that harm no host too much; of equals the fewest changes.

    None where nothing raises it.
    """
    best, chosen = (0.0, 0), None
    for shares, flags in combinations(passed):
        found = score(flags)
        if found.gain > 1e-12 and found.harm <= settings.max_harm and (found.gain, -found.changed) > best:
            best, chosen = (found.gain, -found.changed), shares
    return chosen


def with_thresholds(rule: Rule, shares: Shares, values: Values) -> tuple[Rule, float, float]:
    """Return the rule with beta and tau, the largest distance and the least log-odds, from mistaken cells (m, 4)."""
    ends = [
        -np.inf if share is None else threshold(column, share) for share, column in zip(shares, values.T, strict=True)
    ]
    beta, tau = float(np.exp(-ends[0])), max(0.0, ends[1])
    # A hair wider, since the first two checks leave out their ends.
    known = {"beta": beta * (1 + 1e-9), "tau": tau * (1 - 1e-9)}
    chosen = tuple(name for name, share in zip(CHECKS[2:], shares[2:], strict=True) if share is not None)
    fixed = tuple(name for name in rule.gates if name not in CHECKS)
    return rule.model_copy(update={**known, "gates": (*fixed, *chosen)}), -ends[2], ends[3]


def off(rule: Rule, reason: str) -> FittedRule:
    """Return a rule that is off."""
    return FittedRule(rule=rule, state="off", reason=reason)


def too_few(pool: Pool, rule: Rule) -> str:
    """Return why the mistaken cells are too few to choose thresholds on; '' where they are enough."""
    count, folds = int(pool.mistaken.sum()), len(np.unique(pool.cells.folds[pool.mistaken]))
    if count < MIN_CELLS:
        return f"branch A mistakes {count} training cells of {rule.rescued}, fewer than {MIN_CELLS}"
    if folds < 2:
        return f"all mistaken training cells of {rule.rescued} are in one fold, so nothing can be chosen out of fold"
    patients = pool.cells.patients
    if patients is not None and len(np.unique(patients[pool.mistaken])) < MIN_GROUPS:
        return f"the mistaken training cells of {rule.rescued} are of fewer than {MIN_GROUPS} patients"
    return ""


def fit_thresholds(training: Training, rule: Rule, settings: FitRules) -> FittedRule:
    """Return the rule with references, discriminant and the thresholds that would have helped most, out of fold.

    Off, with the reason, where the class has too few cells for that or where nothing would have helped.
    """
    suppressed = [rule.rescued] if rule.suppress else []
    pool = pool_of(training, rule, suppressed)
    if problem := too_few(pool, rule):
        return off(rule, problem)
    values, allowed = values_of(pool, rule, suppressed, training)
    passed = list(passed_by_share(pool, values, KEPT_SHARES))
    passed[0] = {share: flags & allowed for share, flags in passed[0].items()}
    shares = best_shares(passed, Scorer(pool, training, rule, suppressed), settings)
    if shares is None:
        return off(rule, f"no thresholds for {rule.rescued} would have raised macro-F1 out of fold")
    fitted, distance, least = with_thresholds(rule, shares, values[pool.mistaken])
    referred = bool({"box", "mahalanobis"} & set(fitted.gates))
    references = fit_references(training, rule, suppressed) if referred else None
    likeness = discriminant(pool, training, rule) if "likeness" in fitted.gates else None
    if (referred and references is None) or ("likeness" in fitted.gates and likeness is None):
        return off(rule, f"too few training cells of {rule.rescued} are measured")
    return FittedRule(
        rule=fitted, state="on", reason="fitted", kept_shares=dict(zip(CHECKS, shares, strict=True)),
        references={
            host: reference.model_copy(update={"max_distance": distance, "max_distance_from": "cross_fitted"})
            for host, reference in (references or {}).items()
        },
        likeness=None if likeness is None else likeness.model_copy(update={"least": least}),
    )  # fmt: skip
