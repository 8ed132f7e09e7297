"""What a person should look at: how unlike the training cells, how disputed and how doubtfully labelled an image is."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

SUSPECTS = Table(
    name="suspects",
    key=("image_id",),
    columns=(
        Column("image_id", pa.string(), "the image's name, unique in the data set"),
        Column("role", pa.string(), "'train' or 'test'"),
        Column("given_label", pa.string(), "the expert's label, of images that are learned from", gaps=True),
        Column("source", pa.string(), "'out_of_fold' (judged by the fold that held it out) or 'fold_mean'"),
        Column("energy", pa.float64(), "-T logsumexp(z / T) of branch A's logits, in their unit; high is unfamiliar"),
        Column("energy_quantile", pa.float64(), "share of the training images whose energy is lower, 0..1", gaps=True),
        Column(
            "feature_distance",
            pa.float64(),
            "Mahalanobis distance of the embedding to the nearest class, in within-class SDs; null without one",
            gaps=True,
        ),
        Column(
            "feature_distance_quantile",
            pa.float64(),
            "share of the training images whose distance is lower, 0..1",
            gaps=True,
        ),
        Column("branch_a_label", pa.string(), "most probable class of branch A"),
        Column("branch_b_label", pa.string(), "most probable class of branch B; null without an embedding", gaps=True),
        Column(
            "disagreement",
            pa.float64(),
            "Jensen-Shannon divergence of the branches' probabilities, bits: 0 (same) .. 1 (disjoint)",
            gaps=True,
        ),
        Column(
            "label_doubt",
            pa.float64(),
            "t / (p + t): p the out-of-fold probability of the given label, t its mean over the class; 0.5 is usual, 1"
            " the most doubtful; null where unlabelled, or where no other fold holds the class",
            gaps=True,
        ),
        Column("label_rank", pa.int32(), "place within the class by label_doubt, 1 the most doubtful", gaps=True),
        Column(
            "likely_label", pa.string(), "most probable class of both branches' mean; null where unlabelled", gaps=True
        ),
        Column("suspect", pa.bool_(), "whether any of the reasons holds"),
        Column("kinds", pa.string(), "which ones, of 'energy', 'distance', 'disagreement', 'label', joined by commas"),
        Column("reason", pa.string(), "one sentence for a person; empty where there is none"),
    ),
)
