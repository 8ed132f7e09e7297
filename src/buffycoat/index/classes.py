"""What labels mean: which class each one is, by the user's settings, by case, and by plain names of the thirteen."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from buffycoat.core.errors import InputError
from buffycoat.data.cell_types import CELL_TYPES
from buffycoat.data.tables.classify import LOGITS, PROBABILITIES
from buffycoat.data.tables.index import FOLDS, IMAGES, LABELS
from buffycoat.data.tables.report import PREDICTIONS
from buffycoat.index.lists import Kind
from buffycoat.index.settings import MakeLabels
from buffycoat.index.words import GAPS, cell_type_of, split_words

CLASS_TABLES = (IMAGES, LABELS, FOLDS, LOGITS, PROBABILITIES, PREDICTIONS)
"""Tables that have a column per class, or are joined with one that has."""
RESERVED = {"all", "why", *(column.name for table in CLASS_TABLES for column in table.columns)}
"""Names that no class may have: of columns, and of what the scores say of all classes together."""
MOST_UNKNOWN = 0.05
"""Share of labelled training images whose label may be no class; more are a mistake, and stop the run."""
MUCH_RARER = 20
"""A class so many times rarer than one with nearly its name may be a misspelling of it."""


@dataclass(frozen=True)
class Reading:
    """What labels mean: `codes`, the classes in their order, and `notes` on what was understood, for a person."""

    codes: list[str]
    aliases: Mapping[str, str | None] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Codes by label, where labels are taken for names of codes."""
    notes: list[str] = field(default_factory=list)

    def is_left_out(self, label: str) -> bool:
        """Return whether the user has left a label out of training."""
        alias = _same(label, self.aliases)
        return alias is not None and self.aliases[alias] is None

    def class_of(self, label: str) -> str:
        """Return the class that a label means; the label itself, or what it is mapped to, where that is no class."""
        alias = _same(label, self.aliases)
        text = label if alias is None else self.aliases[alias] or label
        if known := _same(text, dict.fromkeys(self.codes)):
            return known
        named = cell_type_of(text) if self.names else None
        return named if named in self.codes and named else text

    def nearest(self, label: str) -> str | None:
        """Return the class that a label may be a misspelling of; None where none is near."""
        known = {code.casefold(): code for code in self.codes}
        known |= {CELL_TYPES[code]: code for code in self.codes if code in CELL_TYPES}
        if (code := cell_type_of(label)) in self.codes:
            return code
        near = difflib.get_close_matches(label.casefold(), known, 1)
        return known[near[0]] if near else None


def _same(text: str, known: Mapping[str, object]) -> str | None:
    """Return which of the known texts this one is: exactly, or the only one that differs by case alone."""
    if text in known:
        return text
    found = [name for name in known if name.casefold() == text.casefold()]
    return found[0] if len(found) == 1 else None


def _spelling(label: str) -> frozenset[str]:
    """Return the words of a label without plural, or of the full name of a code: synonyms differ, spellings do not."""
    text = CELL_TYPES.get(label.strip().upper(), label)
    return frozenset(word.removesuffix("s") for word in split_words(text) if word not in ("cell", "cells"))


def _read_names(labels: list[str], fixed: list[str], settings: MakeLabels) -> tuple[dict[str, str], str]:
    """Return the codes of labels that are names of them, and a sentence why such names are not taken for them.

    `fixed`: the classes, where they are known. All are taken or none, unless the user wants what can be taken: half of
    them would divide one nomenclature.
    """
    allowed = fixed or list(CELL_TYPES)
    others = [label for label in labels if label not in allowed and not _same(label, dict.fromkeys(fixed))]
    codes = {label: code for label in others if (code := cell_type_of(label)) in allowed and code}
    if settings.names == "never" or not codes:
        return {}, ""
    if settings.names == "always":
        return codes, ""
    left = [label for label in others if label not in codes]
    several: dict[str, dict[frozenset[str], str]] = {}
    for label, code in [*codes.items(), *((label, label) for label in labels if label in allowed)]:
        several.setdefault(code, {})[_spelling(label)] = label
    unclear = [list(spelled.values()) for spelled in several.values() if len(spelled) > 1]
    if not left and not unclear:
        return codes, ""
    taken = ", ".join(f"{label} = {code}" for label, code in codes.items() if label.upper() != code)
    if not taken:
        return {}, ""
    why = f"{left[0]!r} is no such name" if left else f"{' and '.join(map(repr, unclear[0]))} would be one class"
    return {}, f"names of codes are not taken for them ({taken}), because {why}; index.make_labels.names: always does"


def _own_spellings(counts: Counter[str]) -> list[str]:
    """Return the classes that the labels themselves are; of spellings that differ by case alone the most frequent."""
    spelled: dict[str, list[str]] = {}
    for label in sorted(counts):
        spelled.setdefault(label.casefold(), []).append(label)
    return sorted(max(labels, key=lambda label: counts[label]) for labels in spelled.values())


def _case_notes(reading: Reading, counts: Counter[str]) -> list[str]:
    """Return a sentence on labels that differ from their class by case alone."""
    texts = [label for label in counts if _same(label, reading.aliases) is None]
    found = {text: reading.class_of(text) for text in texts}
    differing = [
        f"{text} = {code}" for text, code in found.items() if text != code and text.casefold() == code.casefold()
    ]
    return [f"labels: the case does not count: {', '.join(differing)}"] if differing else []


def _alike_notes(codes: list[str], counts: Counter[str]) -> list[str]:
    """Return a sentence for each rare class of the user's own whose name is nearly that of a frequent one."""
    notes = []
    for code in codes:
        frequent = [other for other in codes if counts[other] >= MUCH_RARER * counts[code] > 0]
        near = difflib.get_close_matches(code, frequent, 1, 0.8)
        if near:
            notes.append(
                f"labels: {code!r} ({counts[code]}) is much like {near[0]!r} ({counts[near[0]]}); if it is a"
                f" misspelling, set index.make_labels.label_aliases: {{{code}: {near[0]}}}"
            )
    return notes


def read_labels(kind: Kind, settings: MakeLabels, given: Counter[str]) -> Reading:
    """Return what the labels of training images mean; `given` counts them as they are written.

    Raises InputError where a class cannot be the name of a column.
    """
    plain = Reading([], settings.label_aliases)
    counts: Counter[str] = Counter()
    for label, count in given.items():
        if not plain.is_left_out(label):
            counts[plain.class_of(label)] += count
    targets = {target for target in settings.label_aliases.values() if target}
    # What the user maps a label to is what the user means.
    notes = []
    fixed = list(settings.classes) if settings.classes != "auto" else list(CELL_TYPES) if kind == "wbcbench" else []
    gaps = {
        label: count for label, count in counts.items() if label.lower() in GAPS and label not in {*fixed, *targets}
    }
    if gaps:
        told = ", ".join(f"{label} ({count})" for label, count in gaps.items())
        notes.append(
            f"labels: {told} reads like a gap and is no class; leave such cells empty, or set"
            f" index.make_labels.label_aliases: {{{next(iter(gaps))}: null}}"
        )
        counts = Counter({label: count for label, count in counts.items() if label not in gaps})
    labels = [label for label in sorted(counts) if label not in targets or label in CELL_TYPES]
    names, why = _read_names(labels, fixed, settings)
    meant = {names.get(label, label) for label in counts}
    if fixed:
        codes = fixed
    elif names or meant & set(CELL_TYPES):
        spelled = {known for label in meant if (known := _same(label, CELL_TYPES))}
        codes = [code for code in CELL_TYPES if code in spelled]
        if settings.names == "always":
            codes += sorted(label for label in meant if _same(label, CELL_TYPES) is None)
    else:
        codes = _own_spellings(counts)
        if codes:
            notes.append("no label is one of the codes of WBCBench: the labels themselves are the classes")
        notes += _alike_notes(codes, counts)
    _require_possible(codes)
    if names:
        taken = ", ".join(f"{label} = {code}" for label, code in names.items())
        notes.append(f"labels are names of WBCBench's codes: {taken}; index.make_labels.names: never keeps them")
    notes += [f"labels: {why}"] if why else []
    idle = [name for name in settings.label_aliases if _same(name, given) is None]
    notes += [f"index.make_labels.label_aliases: no training image is labelled {', '.join(idle)}"] if idle else []
    reading = Reading(codes, settings.label_aliases, names)
    return Reading(codes, settings.label_aliases, names, [*notes, *_case_notes(reading, given)])


def _require_possible(codes: list[str]) -> None:
    for code in codes:
        if code in RESERVED or not code.strip() or not code.isprintable() or set("{}$") & set(code):
            raise InputError(
                f"class {code!r}: a class cannot be called so, because it names a column in tables and is shown in"
                f" figures; rename it, or set index.make_labels.label_aliases: {{{code}: {code} cells}}"
            )


def fault_of(reading: Reading, counts: Counter[str]) -> str:
    """Return why nothing can be learned from so many training images by what their label means; empty where it can be.

    `counts` hold classes and labels that are none, without what the user leaves out.
    """
    known = {code: counts[code] for code in reading.codes if counts[code]}
    unknown = {label: count for label, count in counts.most_common() if label not in known}
    total = sum(unknown.values())
    if not counts.total():
        return "no image can be learned from: no training image has a label"
    if total > MOST_UNKNOWN * counts.total() or (total and len(known) < 2):
        shown = []
        for label, count in list(unknown.items())[:5]:
            near = reading.nearest(label)
            shown.append(f"{label!r} ({count}{f', did you mean {near}?' if near else ''})")
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        return (
            f"{total} of {counts.total()} labelled images for training are of no class: {', '.join(shown)}{more}; the"
            f" classes are {', '.join(reading.codes)}; correct them, map them in index.make_labels.label_aliases (null"
            " leaves them out), or name all classes in index.make_labels.classes"
        )
    if len(known) < 2:
        return f"all labelled training images are of one class, {next(iter(known))}; a classifier needs two or more"
    return ""
