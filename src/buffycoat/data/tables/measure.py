"""Shape, size and colour of each cell, from the carried masks."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, Column, Table

MORPHOLOGY = Table(
    name="morphology",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("measured", pa.bool_(), "whether a contour and a nucleus could be measured"),
        Column(
            "spikiness", pa.float64(), "largest over median distance of the contour from its centroid, >= 1", gaps=True
        ),
        Column("area_px", pa.float64(), "area of the cell, pixels of the source image", gaps=True),
        Column("nucleus_ratio", pa.float64(), "nucleus-to-cell area ratio, 0..1", gaps=True),
        Column(
            "nucleus_offset_radii",
            pa.float64(),
            "distance of the centroids of nucleus and cell, in radii of the cell",
            gaps=True,
        ),
        Column("cell_level", pa.float64(), "mean grey level of the cell, 0..255", gaps=True),
        Column("cell_level_sd", pa.float64(), "standard deviation of the cell's grey level", gaps=True),
        Column("red_blue_ratio", pa.float64(), "mean red over mean blue of the cell", gaps=True),
        Column("cytoplasm_level", pa.float64(), "mean grey level of the cytoplasm, 0..255", gaps=True),
        Column("solidity", pa.float64(), "area of the nucleus over that of its convex hull, 0..1", gaps=True),
        Column("eccentricity", pa.float64(), "of the cell's ellipse, 0..1", gaps=True),
        Column("cell_circularity", pa.float64(), "4 pi area / perimeter^2 of the cell, 0..1 (disc)", gaps=True),
        Column("cell_solidity", pa.float64(), "area of the cell over that of its convex hull, 0..1", gaps=True),
        Column(
            "irregularity",
            pa.float64(),
            "how far the outline leaves its best ellipse, root mean square in radii, >= 0",
            gaps=True,
        ),
        Column("nucleus_circularity", pa.float64(), "4 pi area / perimeter^2 of the nucleus, 0..1 (disc)", gaps=True),
        Column("lobes", pa.int32(), "lobes of the nucleus, >= 1", gaps=True),
        Column(
            "nucleus_cytoplasm_ratio",
            pa.float64(),
            "nucleus-to-cytoplasm area ratio, > 0; null where there is no cytoplasm",
            gaps=True,
        ),
        Column(
            "chromatin_contrast",
            pa.float64(),
            "standard deviation of the nucleus's optical density below a tenth of its radius, >= 0",
            gaps=True,
        ),
        Column(
            "granularity",
            pa.float64(),
            "standard deviation of the cytoplasm's optical density below 0.08 of the cell's radius, >= 0",
            gaps=True,
        ),
        Column("cytoplasm_red", pa.float64(), "optical density of the cytoplasm in red, over the glass", gaps=True),
        Column("cytoplasm_green", pa.float64(), "the same in green", gaps=True),
        Column("cytoplasm_blue", pa.float64(), "the same in blue", gaps=True),
        Column("eosinophilia", pa.float64(), "cytoplasm_green over cytoplasm_red: high where it is pink", gaps=True),
        Column(
            "nucleus_from",
            pa.string(),
            "'carried' (the mask's nucleus) or 'grey' (dark half of a 2-means split of the cell's grey levels)",
            gaps=True,
        ),
        Column("reason", pa.string(), "why nothing was measured; empty otherwise"),
    ),
)
