"""Step `find_suspects`: images that a person should look at, and why; no label is changed here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import rel_entr

from buffycoat.core.errors import InputError
from buffycoat.core.steps import run
from buffycoat.data.labels import learned_rows
from buffycoat.data.locations import boxes_of
from buffycoat.data.tables.classify import LOGITS, read_probabilities
from buffycoat.data.tables.crop import CROPS
from buffycoat.data.tables.embed import EMBEDDINGS
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes, decodable
from buffycoat.data.tables.review import SUSPECTS
from buffycoat.data.tables.schema import require_same_keys
from buffycoat.review.outliers import Familiar, distances_of, energy_of, fit_familiar, share_below, write_familiar
from buffycoat.review.reasons import KINDS, with_reasons
from buffycoat.review.settings import FindSuspects

log = logging.getLogger("buffycoat")
Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Verdicts = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SuspectFinder:
    """What finding suspects needs."""

    familiar: Familiar
    """What the training images look like to both branches."""
    codes: list[str]
    """The classes, in the order of the probabilities."""
    settings: FindSuspects
    """From which quantile on an image is suspect."""


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


def rows_of(images: pd.DataFrame, labels: pd.DataFrame, folds: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the decodable images with role, given_label, fold and number of the class (-1 where not learned from).

    In order of name, so that no sum hangs on the order of rows. Raises InputError where a fold is missing.
    """
    learned = learned_rows(images, labels, folds, codes).set_index("image_id")
    rows = decodable(images)[["image_id", "role"]].sort_values("image_id", ignore_index=True)
    rows["given_label"] = rows["image_id"].map(learned["label"]).astype(object)
    for name in ("fold", "number"):
        rows[name] = rows["image_id"].map(learned[name]).fillna(-1).astype(np.int64)
    return rows


def new_rows(ids: pd.Series) -> pd.DataFrame:
    """Return what `read_rows` returns, of images that nothing was learned from, in their order."""
    return ids.to_frame("image_id").assign(role="test", given_label=None, fold=-1, number=-1)


def energies_of(logits: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the energy of the mean over views, by image_id and fold, of a table of logits."""
    means = logits.astype(dict.fromkeys(codes, np.float64)).groupby(["image_id", "fold"])[codes].mean()
    return pd.Series(energy_of(means.to_numpy()), index=means.index)


def mean_energies(logits: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the energy of each image, by image_id, the mean over folds of what `energies_of` returns."""
    means: pd.Series = energies_of(logits, codes).groupby("image_id").mean()
    return means


def read_energies(logits: list[Path], rows: pd.DataFrame, codes: list[str]) -> pd.Series:
    """Return the energy of each image of `rows`, in their order: of the mean over views, then the mean over folds.

    Energies are averaged, not logits: the energy of mean logits is higher wherever folds differ, so that images that
    all folds judge would look stranger than those of one fold. Raises InputError where a training image is judged by
    a fold that learned it, or an image lacks a fold.
    """
    of_fold = []
    for path in logits:
        frame = LOGITS.read(path)
        if sorted(LOGITS.class_columns([str(name) for name in frame.columns])) != sorted(codes):
            raise InputError(f"{path}: its classes are not {codes}; delete it and run again")
        of_fold.append(energies_of(frame, codes))
    energies = pd.concat(of_fold).reset_index(name="energy")
    held = energies["image_id"].map(rows.set_index("image_id")["fold"])
    if ((held >= 0) & (held != energies["fold"])).any():
        raise InputError("logits of a training image come from a fold that learned it; delete results/5_classify")
    grouped = energies.groupby("image_id")["energy"]
    require_same_keys(energies["image_id"], rows["image_id"], "logits of all folds")
    counts = grouped.count().loc[rows["image_id"]].to_numpy()
    if (counts != np.where(rows["fold"] >= 0, 1, len(logits))).any():
        raise InputError("an image lacks the logits of a fold; delete results/5_classify and run again")
    means: pd.Series = grouped.mean().loc[rows["image_id"]]
    return means


def read_branch_a(path: Path, rows: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Read branch A's probabilities; raises InputError unless they are of the rows, the learned ones out of fold."""
    branch_a = read_probabilities(path, codes)
    require_same_keys(branch_a["image_id"], rows["image_id"], str(path))
    learned = branch_a["image_id"].isin(rows.loc[rows["fold"] >= 0, "image_id"])
    if (branch_a.loc[learned, "source"] != "out_of_fold").any():
        raise InputError(f"{path}: training images are not predicted out of fold; delete it and run again")
    return branch_a


def branches_of(
    rows: pd.DataFrame, branch_a: pd.DataFrame, branch_b: pd.DataFrame, codes: list[str]
) -> tuple[Values, Values, Values]:
    """Return the probabilities of both branches (n, K), NaN where B lacks a row, and those that judge given labels.

    The last are the mean of both, and branch A's alone where branch B is missing or has learned the image.
    """
    in_order = branch_b.set_index("image_id").reindex(rows["image_id"])
    seen = (rows["fold"] >= 0).to_numpy(bool) & (in_order["source"] == "in_sample").to_numpy(bool)
    if seen.any():
        log.warning(
            "branch B has learned %d training images (embed.train_head.cross_fit is off): labels are judged by branch A"
            " alone, and disagreement on these images says little",
            int(seen.sum()),
        )
    a = branch_a.set_index("image_id").loc[rows["image_id"], codes].to_numpy(np.float64)
    b = in_order[codes].to_numpy(np.float64)
    alone = seen | np.isnan(b).any(axis=1)
    return a, b, np.where(alone[:, None], a, (a + b) / 2)


def with_branches(rows: pd.DataFrame, branches: tuple[Values, Values, Values], codes: list[str]) -> pd.DataFrame:
    """Return the rows with what the branches say, and what they say of the given labels."""
    a, b, judges = branches
    names = np.array(codes, object)
    missing, learned = np.asarray(np.isnan(b).any(axis=1), bool), (rows["fold"] >= 0).to_numpy(bool)
    # argmax of a row of NaN is 0: it is masked.
    label_b = pd.Series(names[b.argmax(axis=1)], dtype=object).mask(missing, None)
    rows = rows.assign(branch_a_label=names[a.argmax(axis=1)], branch_b_label=label_b, disagreement=divergence(a, b))
    rows["probability"] = a.max(axis=1, initial=0.0)
    numbers, folds = (rows.loc[learned, name].to_numpy(np.int64) for name in ("number", "fold"))
    doubts = label_doubts(judges[learned], numbers, folds)
    untold = int(np.isnan(doubts.doubt).sum())
    if untold:
        log.warning("%d labels cannot be judged: no other fold holds their class", untold)
    rows = rows.assign(label_doubt=np.nan, label_rank=np.nan, likely_label=None, contradicted=False)
    rows.loc[learned, "label_doubt"], rows.loc[learned, "label_rank"] = doubts.doubt, doubts.rank
    rows["likely_label"] = rows["likely_label"].astype(object)
    rows.loc[learned, "likely_label"], rows.loc[learned, "contradicted"] = names[doubts.likely], doubts.contradicted
    return rows


def apply(
    rows: pd.DataFrame,
    finder: SuspectFinder,
    embeddings: pd.DataFrame,
    branch_a: pd.DataFrame,
    branch_b: pd.DataFrame,
) -> pd.DataFrame:
    """Return what there is to suspect of each row (table SUSPECTS), in their order.

    Parameters: rows, as `rows_of` or `new_rows` gives them, with the columns energy (in the unit of the logits),
    cell_found and cells (of the table CROPS); embeddings (table EMBEDDINGS) and branch_b (table PROBABILITIES) may lack
    images, branch_a may not.
    """
    familiar, energies = finder.familiar, rows["energy"].to_numpy(np.float64)
    distances = distances_of(rows, embeddings, familiar)
    rows = rows.assign(
        source=np.where(rows["fold"] >= 0, "out_of_fold", "fold_mean"),
        energy_quantile=share_below(energies, familiar.energies),
        feature_distance=distances,
        feature_distance_quantile=share_below(distances, familiar.distances),
        sure_above=familiar.sure_above,
    )
    rows = with_branches(rows, branches_of(rows, branch_a, branch_b, finder.codes), finder.codes)
    table = with_reasons(rows, finder.settings).astype({"label_rank": "Int32"})
    return table[[column.name for column in SUSPECTS.columns]]


def with_cells(rows: pd.DataFrame, crops: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with cell_found and cells, of the table CROPS; raises InputError where that lacks one.

    A box of `images` is one cell: its neighbours have boxes of their own.
    """
    of_crops = crops.set_index("image_id")
    if not rows["image_id"].isin(of_crops.index).all():
        raise InputError("the table of crops lacks images; delete results/2_crop/crops.parquet and run again")
    found = of_crops.loc[rows["image_id"]]
    boxed = rows["image_id"].isin(images.loc[[box is not None for box in boxes_of(images)], "image_id"])
    cells = np.where(boxed, 1, found["masks"].to_numpy(np.int64))
    return rows.assign(cell_found=found["found"].to_numpy(bool), cells=cells)


def with_confidence(rows: pd.DataFrame, branch_a: pd.DataFrame, codes: list[str]) -> pd.DataFrame:
    """Return the rows with branch A's highest probability, and whether that is the given label's."""
    chances = branch_a.set_index("image_id").loc[rows["image_id"], codes].to_numpy(np.float64)
    return rows.assign(
        confidence=chances.max(axis=1, initial=0.0), right=chances.argmax(axis=1) == rows["number"].to_numpy(np.int64)
    )


def log_gaps(table: pd.DataFrame, embeddings: pd.DataFrame) -> None:
    """Warn of images without an embedding, and of others without a distance."""
    known = table["image_id"].isin(embeddings["image_id"])
    if not known.all():
        log.warning("%d images have no embedding: neither distance nor disagreement", int((~known).sum()))
    gaps = int(table.loc[known, "feature_distance"].isna().sum())
    if gaps:
        log.warning(
            "%d distances are gaps: the other folds hold too few cells, or cells that do not vary within classes", gaps
        )


def log_counts(table: pd.DataFrame) -> None:
    """Log how many training and other images each kind of suspicion falls on."""
    learned = (table["source"] == "out_of_fold").to_numpy(bool)
    for kind in KINDS:
        raised = np.array([kind in names.split(",") for names in table["kinds"]], bool)
        log.info(
            "suspects by %s: %d of %d training images, %d of %d others",
            *(kind, (raised & learned).sum(), learned.sum(), (raised & ~learned).sum(), (~learned).sum()),
        )
    log.info("%d of %d images are suspect", int(table["suspect"].sum()), len(table))


def find_suspects(
    *, images: Path, labels: Path, classes: Path, folds: Path, probabilities: Path, logits: list[Path],
    head_probabilities: Path, embeddings: Path, crops: Path, suspects: Path, familiar: Path, settings: FindSuspects,
) -> None:  # fmt: skip
    """Write a row per decodable image: how unlike the training cells, how disputed, how doubtfully labelled it is.

    What new images can be compared with goes into `familiar`.
    """
    codes = class_codes(CLASSES.read(classes))
    image_rows = IMAGES.read(images)
    rows = rows_of(image_rows, LABELS.read(labels), FOLDS.read(folds), codes)
    rows["energy"] = read_energies(logits, rows, codes).to_numpy(np.float64)
    vectors = EMBEDDINGS.read(embeddings)
    branch_a, branch_b = read_branch_a(probabilities, rows, codes), read_probabilities(head_probabilities, codes)
    known = fit_familiar(with_confidence(rows, branch_a, codes), vectors, settings.quantile)
    finder = SuspectFinder(known, codes, settings)
    table = apply(with_cells(rows, CROPS.read(crops), image_rows), finder, vectors, branch_a, branch_b)
    log_gaps(table, vectors)
    log_counts(table)
    write_familiar(finder.familiar, familiar)
    ordered = decodable(image_rows)["image_id"]
    SUSPECTS.write(table.set_index("image_id").loc[ordered].reset_index(), suspects)


if __name__ == "__main__":
    run(find_suspects)
