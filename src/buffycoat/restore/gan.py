"""The training of Pix2Pix as a state: losses, judgement on held-out pairs, and checkpoints."""

from __future__ import annotations

import copy
import logging
from contextlib import AbstractContextManager
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from buffycoat.core.settings import Runtime
from buffycoat.data.clean_pairs import psnr, ssim
from buffycoat.data.images import Pixels
from buffycoat.nets.batches import filled
from buffycoat.nets.device import mixed_precision
from buffycoat.nets.pretrained import MEAN, STD, efficientnet_lite0
from buffycoat.nets.training import seed_torch
from buffycoat.restore.networks import (
    Discriminator,
    Generator,
    checkerboard_score,
    initialise,
    pad_to_multiple,
    restore_batch,
)
from buffycoat.restore.pairs import CleanCrops, held_out_pairs, to_pixels, to_tensor
from buffycoat.restore.settings import TrainGan

log = logging.getLogger("buffycoat")
LEVELS = (1, 2, 3)
"""Feature maps that are compared: at a quarter, an eighth and a sixteenth of the image's side."""
SAMPLES = 8
"""Rows of the sheet of samples."""
SAMPLE_PX = 96
"""Largest side of a sample in the sheet, pixels: a training of fifty judgements still fits on a page."""
HEADING_PX = 16


class FeatureDistance(nn.Module):
    """Distance of images (n, 3, H, W) in [-1, 1] in the frozen features of EfficientNet-Lite0 (ImageNet weights)."""

    def __init__(self) -> None:
        """Load the embedded weights."""
        super().__init__()
        import timm

        self.network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=LEVELS)
        whole = efficientnet_lite0(0).state_dict()
        own = self.network.state_dict()
        self.network.load_state_dict({name: whole[name] for name in own}, strict=True)
        self.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Return the mean over levels of mean |difference| / mean |feature of the clean one|, unitless, 0 if equal."""
        with torch.no_grad():
            wanted = self.network(self._normalised(clean))
        found = self.network(self._normalised(restored))
        parts = [
            (a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-6)
            for a, b in zip(found, wanted, strict=True)
        ]
        return torch.stack(parts).mean()

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std  # type: ignore[operator]


def restored_by(generator: nn.Module, noisy: Pixels, depth: int, batch: int, device: torch.device) -> Pixels:
    """Return the generator's restoration of (n, H, W, 3) uint8 crops of any size."""
    generator.eval()
    parts = []
    with torch.inference_mode(), mixed_precision(device):
        for start in range(0, len(noisy), batch):
            x = to_tensor(noisy[start : start + batch])
            full = filled(x, batch).to(device, memory_format=torch.channels_last)
            parts.append(to_pixels(restore_batch(generator, full, depth)[: len(x)]))
    return np.concatenate(parts)


def _means(images: Pixels, truth: Pixels, name: str) -> dict[str, float]:
    pairs = list(zip(images, truth, strict=True))
    return {
        f"psnr_{name}": float(np.mean([psnr(a, b) for a, b in pairs])),
        f"ssim_{name}": float(np.mean([ssim(a, b) for a, b in pairs])),
    }


def checkerboard(images: Pixels) -> float:
    """Return the mean checkerboard score of (n, H, W, 3) crops, cut to even sides."""
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    return float(np.mean([checkerboard_score(image) for image in to_tensor(even)]))


class Judge:
    """Held-out pairs, the same at every judgement, and what noisy and median-filtered ones score."""

    def __init__(self, held: CleanCrops, settings: TrainGan, seed: int) -> None:
        """Make the pairs and score what does not change."""
        self.clean = held.pixels
        self.noisy, self.kinds = held_out_pairs(held, settings, seed)
        median = np.stack([cv2.medianBlur(image, 3) for image in self.noisy])
        self.constant = {
            **_means(self.noisy, self.clean, "noisy"),
            **_means(median, self.clean, "median"),
            "checkerboard_clean": checkerboard(self.clean),
        }

    def scores(self, restored: Pixels) -> dict[str, float]:
        """Return the scores of the restored crops beside those of the others; log PSNR per kind."""
        for kind in sorted(set(self.kinds)):
            chosen = [k for k, other in enumerate(self.kinds) if other == kind]
            mean = np.mean([psnr(restored[k], self.clean[k]) for k in chosen])
            log.info("held out, %s: restored %.2f dB", kind, mean)
        found = _means(restored, self.clean, "restored")
        return {**self.constant, **found, "checkerboard_restored": checkerboard(restored)}

    def samples(self, images: Pixels) -> Pixels:
        """Return one column of the sheet: some of the crops, at most SAMPLE_PX wide, one below the other."""
        side = min(SAMPLE_PX, images.shape[1])
        chosen = images[: min(SAMPLES, len(images))]
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in chosen]
        return np.asarray(np.vstack(small), np.uint8)

    def sheet(self, columns: dict[str, Pixels]) -> Pixels:
        """Return the sheet: noisy, restored after each judgement (`columns`, by heading), clean."""
        everything = {"noisy": self.samples(self.noisy), **columns, "clean": self.samples(self.clean)}
        return np.hstack([_headed(column, heading) for heading, column in everything.items()])


def _headed(column: Pixels, heading: str) -> Pixels:
    band = np.full((HEADING_PX, column.shape[1], 3), 255, np.uint8)
    cv2.putText(band, heading, (2, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (34, 48, 60), 1, cv2.LINE_AA)
    return np.vstack([band, column])


def generator_of(about: dict[str, Any]) -> Generator:
    """Return an untrained generator as the settings in a weights file's header describe it."""
    names = ("depth", "norm", "upsampling", "dropout", "residual")
    return Generator(width=about["widths"][0], **{name: about[name] for name in names})


def learning_rate(settings: TrainGan, number: int) -> float:
    """Return the rate of step `number` (from 0): up in a straight line, constant, in a straight line down to zero."""
    done, left = (number + 1) / settings.steps, (settings.steps - number) / settings.steps
    warm_up, decay = settings.schedule
    up = done / warm_up if warm_up else 1.0
    down = left / decay if decay else 1.0
    return settings.learning_rate * min(1.0, up, down)


class Gan:
    """Generator, discriminator, their optimisers, and the averaged generator."""

    def __init__(self, settings: TrainGan, seed: int, device: torch.device, runtime: Runtime = Runtime()) -> None:
        """Initialise everything from the seed."""
        seed_torch(seed, "gan", "initialise")
        self.settings, self.seed, self.device, self.runtime = settings, seed, device, runtime
        self.generator = generator_of(settings.model_dump())
        self.discriminator = Discriminator(settings.widths[1], settings.norm)
        for network in (self.generator, self.discriminator):
            if settings.upsampling == "transposed":
                initialise(network)
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        self.distance = FeatureDistance().to(device) if settings.lambda_features else None
        rates = {"lr": settings.learning_rate, "betas": (0.5, 0.999)}
        self.optimise_g = torch.optim.Adam(self.generator.parameters(), **rates)  # type: ignore[arg-type]
        self.optimise_d = torch.optim.Adam(self.discriminator.parameters(), **rates)  # type: ignore[arg-type]
        self.parts: dict[str, Any] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "averaged": self.averaged,
            "optimise_g": self.optimise_g,
            "optimise_d": self.optimise_d,
        }

    def step(self, noisy: Tensor, clean: Tensor, number: int) -> dict[str, float]:
        """Take one step of each network; return the losses by name."""
        seed_torch(self.seed, "gan", number)
        self.generator.train()
        for optimiser in (self.optimise_g, self.optimise_d):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(self.settings, number)
        noisy, clean = (self._placed(x) for x in (noisy, clean))
        with self._precision():
            restored = self.generator(noisy)
        losses = self._step_discriminator(noisy, clean, restored.detach().float())
        losses |= self._step_generator(noisy, clean, restored.float())
        self._average(number)
        return losses

    def _precision(self) -> AbstractContextManager[Any]:
        return mixed_precision(self.device, self.runtime.bf16_on_cpu)

    def _placed(self, images: Tensor) -> Tensor:
        moved = images.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        return pad_to_multiple(moved, self.settings.depth)

    def _step_discriminator(self, noisy: Tensor, clean: Tensor, restored: Tensor) -> dict[str, float]:
        with self._precision():
            real, fake = self.discriminator(noisy, clean).float(), self.discriminator(noisy, restored).float()
        d_real = nn.functional.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        d_fake = nn.functional.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        self.optimise_d.zero_grad()
        ((d_real + d_fake) / 2).backward()
        self.optimise_d.step()
        return {"D_real": d_real.item(), "D_fake": d_fake.item()}

    def _step_generator(self, noisy: Tensor, clean: Tensor, restored: Tensor) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        with self._precision():
            fake = self.discriminator(noisy, restored).float()
        g_gan = nn.functional.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
        g_l1 = nn.functional.l1_loss(restored, clean)
        g_features = torch.zeros((), device=self.device)
        if self.distance is not None:
            with self._precision():
                g_features = self.distance(restored, clean)
        self.optimise_g.zero_grad()
        (g_gan + self.settings.lambda_l1 * g_l1 + self.settings.lambda_features * g_features).backward()
        self.optimise_g.step()
        self.discriminator.requires_grad_(True)
        return {"G_GAN": g_gan.item(), "G_L1": g_l1.item(), "G_features": g_features.item()}

    def _average(self, number: int) -> None:
        # The average follows quickly at first, so that a short training is not held back by its start.
        decay = min(self.settings.ema, (1 + number) / (10 + number)) if self.settings.ema else 0.0
        with torch.no_grad():
            for mean, now in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
                mean.data.lerp_(now.data, 1 - decay)
            for kept, seen in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
                kept.copy_(seen)

    def state(self) -> dict[str, Any]:
        """Return all that a later step depends on."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
