"""The training of Pix2Pix as a state that can be stepped, stored and taken up again."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from buffycoat.device import mixed_precision
from buffycoat.restore.features import FeatureDistance
from buffycoat.restore.networks import Discriminator, Generator, initialise, pad_to_multiple
from buffycoat.restore.settings import TrainGan
from buffycoat.training import seed_torch


def generator_of(about: dict[str, Any]) -> Generator:
    """Return an untrained generator as the settings in a weights file's header describe it."""
    names = ("depth", "width", "norm", "upsampling", "dropout", "residual")
    return Generator(**{name: about[name] for name in names})


def learning_rate(settings: TrainGan, number: int) -> float:
    """Return the rate of step `number` (from 0): up in a straight line, constant, in a straight line down to zero."""
    done, left = (number + 1) / settings.steps, (settings.steps - number) / settings.steps
    up = done / settings.warm_up if settings.warm_up else 1.0
    down = left / settings.decay if settings.decay else 1.0
    return settings.learning_rate * min(1.0, up, down)


class Gan:
    """Generator, discriminator, their optimisers, and the averaged generator."""

    def __init__(self, settings: TrainGan, seed: int, device: torch.device) -> None:
        """Initialise everything from the seed."""
        seed_torch(seed, "gan", "initialise")
        self.settings, self.seed, self.device = settings, seed, device
        self.generator = generator_of(settings.model_dump())
        self.discriminator = Discriminator(settings.discriminator_width, settings.norm)
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
        if self.settings.bf16_on_cpu and self.device.type == "cpu":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        return mixed_precision(self.device)

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
