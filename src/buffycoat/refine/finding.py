"""Which rare classes hide in which others: rules made from branch A's mistakes on training cells, out of fold."""

from __future__ import annotations

import logging

import numpy as np

from buffycoat.refine.fitting import Training
from buffycoat.refine.settings import FitReference, Rule

log = logging.getLogger("buffycoat")


def rare_classes(training: Training, settings: FitReference) -> list[str]:
    """Return the classes with fewer than `rare_below` of the labelled cells, but any, the rarest first."""
    counts = {code: int((training.labels == code).sum()) for code in training.evidence.classes}
    most = settings.rare_below * len(training.labels)
    return sorted((code for code, count in counts.items() if 0 < count < most), key=lambda code: (counts[code], code))


def hosts_of(training: Training, code: str, settings: FitReference) -> tuple[str, ...]:
    """Return the classes that branch A gives at least `host_share` of the class's mistaken cells, in class order."""
    base = training.evidence.base_labels()
    given = base[(training.labels == code) & (base != code)]
    least = max(1.0, settings.host_share * len(given))
    return tuple(host for host in training.evidence.classes if np.count_nonzero(given == host) >= least)


def find_rules(training: Training, settings: FitReference) -> list[Rule]:
    """Return a rule without thresholds for each rare class of which branch A mistakes any cell, rarest first.

    Its rules only add: a cell that branch A gives the class keeps it.
    """
    rules = []
    for code in rare_classes(training, settings):
        hosts = hosts_of(training, code, settings)
        if not hosts:
            log.info("no rule for %s: branch A mistakes none of its training cells", code)
            continue
        gates = ("mahalanobis", "likeness")
        rules.append(Rule(rescued=code, hides_in=hosts, beta=1.0, tau=0.0, gates=gates, suppress=False))
    return rules
