"""What is disputed: the two branches' disagreement, and labels that out-of-fold probabilities speak against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Verdicts = npt.NDArray[np.bool_]


def divergence(first: Values, second: Values) -> Values:
    """Return the Jensen-Shannon divergence of rows of probabilities (n, K) in bits: (n,), 0..1; NaN where a row is.

    SciPy's `jensenshannon` is its square root, and loses half the digits near 0.
    """
    # Half of the smallest number is 0, and a probability over a mean of 0 would diverge without bound.
    first, second = (np.where(rows < 2 * np.finfo(np.float64).tiny, 0, rows) for rows in (first, second))
    middle = (first + second) / 2
    nats = (rel_entr(first, middle).sum(axis=1) + rel_entr(second, middle).sum(axis=1)) / 2
    bits: Values = np.clip(nats / np.log(2), 0, 1)
    return bits


def known_elsewhere(numbers: Numbers, folds: Numbers) -> Verdicts:
    """Return which rows (n,) have a class that also another fold holds: a model of the other folds has seen it."""
    classes, rows = np.unique(numbers, return_inverse=True)
    of_fold = np.unique(folds, return_inverse=True)[1]
    counts = np.zeros((len(classes), int(of_fold.max(initial=0)) + 1), np.int64)
    np.add.at(counts, (rows, of_fold), 1)
    elsewhere: Verdicts = counts[rows].sum(axis=1) > counts[rows, of_fold]
    return elsewhere


@dataclass(frozen=True)
class Doubts:
    """What probabilities say of given labels, a row per labelled image."""

    doubt: Values
    """t / (p + t), 0..1; NaN where no model has seen the class without the image's own fold."""
    rank: Values
    """Place within the class, 1 the most doubtful; NaN where the doubt is."""
    contradicted: Verdicts
    """Whether the label is wrong by the rule of confident learning."""
    likely: Numbers
    """The most probable class."""
    usual: Values
    """Each class's mean self-confidence t, (K,); NaN for a class that no row can tell of."""


def self_confidence(chances: Values, numbers: Numbers, told: Verdicts) -> Values:
    """Return the mean probability of each class over the rows that are labelled so, (K,); NaN without such a row."""
    means = np.full(chances.shape[1], np.nan)
    for number in np.unique(numbers[told]):
        means[number] = chances[told & (numbers == number), number].mean()
    return means


def label_doubts(chances: Values, numbers: Numbers, folds: Numbers) -> Doubts:
    """Return the doubts about labels (n,) from out-of-fold probabilities (n, K) (arXiv 1911.00068, section 3.1).

    The rule: among the classes whose probability reaches their own mean self-confidence the most probable one is not
    the label. A label that is the most probable class of all is never contradicted: a class that nothing is ever sure
    of has a low mean, which every neighbour of it would reach. Ranks of equal doubts follow the order of the rows.
    """
    told = known_elsewhere(numbers, folds)
    usual = self_confidence(chances, numbers, told)
    own = chances[np.arange(len(numbers)), numbers]
    # A mean of 0 says that the class is never recognised: then no label of it is more doubtful than another.
    sum_of_both = own + usual[numbers]
    doubt = np.divide(usual[numbers], sum_of_both, out=np.full(len(own), 0.5), where=sum_of_both > 0)
    doubt[~told] = np.nan
    confident = np.where(chances >= np.nan_to_num(usual, nan=np.inf), chances, -1.0)
    likely = chances.argmax(axis=1)
    contradicted = told & (confident.max(axis=1, initial=-1.0) >= 0) & (likely != numbers)
    contradicted &= confident.argmax(axis=1) != numbers
    return Doubts(doubt, ranks_within(doubt, numbers), contradicted, likely.astype(np.int64), usual)


def ranks_within(doubt: Values, numbers: Numbers) -> Values:
    """Return each row's place within its class, 1 for the largest doubt; NaN where the doubt is."""
    ranks = np.full(len(doubt), np.nan)
    for number in np.unique(numbers):
        rows = np.flatnonzero((numbers == number) & ~np.isnan(doubt))
        ranks[rows[np.argsort(-doubt[rows], kind="stable")]] = np.arange(1, len(rows) + 1)
    return ranks
