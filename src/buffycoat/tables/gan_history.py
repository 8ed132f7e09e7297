"""The course of a Pix2Pix training, a row per judgement."""

from __future__ import annotations

import pyarrow as pa

from buffycoat.tables.schema import Column, Table

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
