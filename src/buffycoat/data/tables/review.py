"""What a person should look at among the images of the data set, and labels of new images."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

SUSPECTS = Table(
    name="suspects",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("role", pa.string(), "'train' or 'test'"),
        Column("given_label", pa.string(), "the expert's label, of images that are learned from", gaps=True),
        Column("source", pa.string(), "'out_of_fold' (judged by the fold that held it out) or 'fold_mean'"),
        Column("cell_found", pa.bool_(), "whether a white cell was found"),
        Column("cells", pa.int32(), "white cells found in the image; one of them is labelled"),
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
        Column("probability", pa.float64(), "branch A's probability of this class, 0..1"),
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
        Column(
            "kinds",
            pa.string(),
            "which ones, of 'label', 'no_cell', 'several_cells', 'probability', 'disagreement', 'energy', 'distance',"
            " joined by commas",
        ),
        Column("reason", pa.string(), "one sentence for a person; empty where there is none"),
    ),
)

NEW_IMAGES = Table(
    name="new_images",
    key=("image_id",),
    others=True,
    columns=(
        Column("image_id", pa.string(), "the image as it was named: a path, or the name in the table"),
        Column("path", pa.string(), "the file"),
        Column("sha256", pa.string(), "of the file's bytes; null where the file could not be read", gaps=True),
        Column("status", pa.string(), "'ok', or why there is no prediction; as in the table of images"),
        Column("label", pa.string(), "predicted class; null where the file has no pixels", gaps=True),
        Column("label_name", pa.string(), "name of this class", gaps=True),
        Column("base_label", pa.string(), "class before refinement", gaps=True),
        Column("probability", pa.float64(), "branch A's probability of the predicted class", gaps=True),
        Column("changed", pa.bool_(), "whether refinement changed the label"),
        Column("reason", pa.string(), "why there is no prediction, or why the label was changed; empty elsewhere"),
        Column("near_miss", pa.string(), "the class that one check alone kept from an unchanged label", gaps=True),
        Column("near_miss_reason", pa.string(), "one sentence that tells this check; empty elsewhere"),
        Column("trace", pa.string(), "JSON: for each candidate class, each phase's value, threshold and verdict"),
        Column("cell_found", pa.bool_(), "whether a white cell was found", gaps=True),
        Column("cells", pa.int32(), "white cells found in the image; one of them is labelled", gaps=True),
        Column(
            "diameter_px",
            pa.float64(),
            "diameter of a disc of the cell's area, pixels of the source image; null where none was found",
            gaps=True,
        ),
        Column("noisy", pa.bool_(), "whether the crop was flagged as noisy", gaps=True),
        Column("blurred", pa.bool_(), "whether the crop was flagged as blurred", gaps=True),
        Column("badly_lit", pa.bool_(), "whether the crop was flagged as badly lit", gaps=True),
        Column("restored", pa.bool_(), "whether the restored pixels were used", gaps=True),
        Column("energy_quantile", pa.float64(), "share of the training images whose energy is lower, 0..1", gaps=True),
        Column(
            "distance_quantile",
            pa.float64(),
            "share of the training images that lie nearer to a class, 0..1; null without models to measure by",
            gaps=True,
        ),
        Column("branch_b_label", pa.string(), "most probable class of branch B", gaps=True),
        Column("disagreement", pa.float64(), "Jensen-Shannon divergence of the branches, bits: 0 .. 1", gaps=True),
        Column(
            "unlike",
            pa.string(),
            "how the image differs from the training images: of 'cell', 'scale', 'noise', 'blur', 'light', 'colour',"
            " 'distance', 'probability', joined by commas; empty where it does not",
        ),
        Column("suspect", pa.bool_(), "whether a person should look at the image"),
        Column("kinds", pa.string(), "why: the kinds of the table suspects but 'label', joined by commas"),
        Column("suspect_reason", pa.string(), "the same as one sentence"),
        Column("probabilities", pa.list_(pa.float64()), "of branch A, one per class, in the bundle's order", gaps=True),
    ),
)
