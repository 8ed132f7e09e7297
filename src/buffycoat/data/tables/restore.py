"""Restoration: the crops it is trained on, the course of the training, and the cells that later stages read."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.data.tables.schema import IMAGE_ID, SHARD_PLACE, Column, Table

PAIRS = Table(
    name="pairs",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("part", pa.string(), "'fit' (trained on) or 'held_out' (judged on)"),
    ),
)

GAN_HISTORY = Table(
    name="gan_history",
    key=("step",),
    columns=(
        Column("step", pa.int64(), "training steps done"),
        Column("G_GAN", pa.float64(), "adversarial loss of the generator, mean since the row before"),
        Column("G_L1", pa.float64(), "L1 loss of the generator, before its weight, images in -1..1"),
        Column("G_features", pa.float64(), "feature loss of the generator, before its weight; 0 where it is off"),
        Column("D_real", pa.float64(), "loss of the discriminator on clean crops"),
        Column("D_fake", pa.float64(), "loss of the discriminator on restored crops"),
        Column("checkerboard_clean", pa.float64(), "held-out crops: share of energy at period two, clean, 0..1"),
        Column("checkerboard_restored", pa.float64(), "held-out crops: share of energy at period two, restored, 0..1"),
        Column("ssim_noisy", pa.float64(), "held-out crops: structural similarity of noisy and clean, -1..1"),
        Column("ssim_median", pa.float64(), "held-out crops: of 3x3 median filter and clean, -1..1"),
        Column("ssim_restored", pa.float64(), "held-out crops: of restored and clean, -1..1"),
        Column("psnr_noisy", pa.float64(), "held-out crops: noisy against clean, dB"),
        Column("psnr_median", pa.float64(), "held-out crops: 3x3 median filter against clean, dB"),
        Column("psnr_restored", pa.float64(), "held-out crops: restored against clean, dB"),
    ),
)

CELLS = Table(
    name="cells",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        *SHARD_PLACE,
        Column("restored", pa.bool_(), "whether the pixels are the restored ones"),
        Column("noise_before", pa.float32(), "noise score of the crop, grey levels"),
        Column(
            "noise_after",
            pa.float32(),
            "noise score after restoration, grey levels; null where none was tried",
            gaps=True,
        ),
        Column(
            "nucleus_change",
            pa.float32(),
            "by what share restoration would change the nucleus's area, -1 (gone) .. ; null where none was tried",
            gaps=True,
        ),
        Column(
            "cell_change",
            pa.float32(),
            "by what share restoration would change the cell's area, -1 (gone) .. ; null where none was tried",
            gaps=True,
        ),
        Column("reason", pa.string(), "why the crop was restored, kept or refused"),
    ),
)

REFUSED = Table(
    name="refused",
    key=("image_id",),
    columns=(
        IMAGE_ID,
        Column("shard", pa.string(), "image shard, as a path relative to this table's folder"),
        Column("shard_row", pa.int32(), "row of the restored cell in its shard, from 0"),
        Column("crc32", pa.int64(), "CRC-32 of the restored crop's bytes followed by the mask's"),
    ),
)
