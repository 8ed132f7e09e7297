"""One fold's training as a state that can run an epoch, be stored, and be taken up again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from buffycoat.classify.augment import augment, draw_parameters
from buffycoat.classify.backbones import build_backbone, classifier_names, early_stages, freeze, normalise
from buffycoat.classify.data import Crops
from buffycoat.classify.imbalance import class_weights, draw_factor
from buffycoat.classify.losses import RECIPES
from buffycoat.classify.settings import TrainFold
from buffycoat.device import mixed_precision
from buffycoat.errors import InputError
from buffycoat.progress import Progress
from buffycoat.randomness import stream
from buffycoat.training import seed_torch


class FoldTraining:
    """Network, averaged network, optimiser and schedule of one fold; (labels are 0..K-1, one per training image)."""

    def __init__(
        self,
        crops: Crops,
        ids: list[str],
        labels: np.ndarray,
        classes: int,
        recipe: str,
        seed: int,
        settings: TrainFold,
    ) -> None:
        """Build everything from the seed; `seed` already depends on the fold."""
        self.crops, self.ids, self.labels = crops, ids, labels
        self.settings, self.seed, self.device = settings, seed, crops.device
        seed_torch(seed, "initialise")
        model = build_backbone(settings.backbone, settings.backbone_options, settings.weights, classes)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen = early_stages(self.model, settings.frozen_stages)
        freeze(self.frozen)
        self.counts = np.bincount(labels, minlength=classes)
        self.loss = RECIPES[recipe]
        weights = class_weights(self.counts, settings.class_weights)
        self.weights = torch.from_numpy(weights).float().to(self.device)
        self.averaged = ModelEmaV3(self.model, decay=settings.ema, use_warmup=True) if settings.ema else None
        self.optimiser = self._optimiser()
        self.steps = max(1, len(ids) // settings.batch)
        total = settings.epochs * self.steps
        warm = round(settings.warm_up * total)
        self.schedule = CosineLRScheduler(
            self.optimiser, t_initial=max(1, total - warm), warmup_t=warm, warmup_lr_init=settings.learning_rate / 100,
            warmup_prefix=True, t_in_epochs=False,
        )  # fmt: skip

    def _optimiser(self) -> torch.optim.Optimizer:
        head = set(classifier_names(self.model))
        groups = []
        for is_head, rate in ((False, 1.0), (True, self.settings.head_rate)):
            part = nn.ParameterDict(
                {
                    name.replace(".", "/"): parameter
                    for name, parameter in self.model.named_parameters()
                    if (name in head) == is_head and parameter.requires_grad
                }
            )
            for group in param_groups_weight_decay(part, self.settings.weight_decay):
                groups.append({**group, "lr": self.settings.learning_rate * rate})
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.settings.learning_rate)

    @property
    def judged(self) -> nn.Module:
        """The network whose predictions count: the averaged one where there is one."""
        network: nn.Module = self.averaged.module if self.averaged is not None else self.model
        return network

    def draws(self, epoch: int) -> np.ndarray:
        """Return the positions drawn in an epoch, with replacement unless the sampler is `none`."""
        size = self.steps * min(self.settings.batch, len(self.ids))
        rng = stream(self.seed, "sampler", epoch)
        if self.settings.sampler == "none":
            return rng.permutation(len(self.ids))[:size]
        chances = draw_factor(self.counts, self.settings.sampler)[self.labels]
        return rng.choice(len(self.ids), size=size, p=chances / chances.sum())

    def run_epoch(self, epoch: int) -> float:
        """Train one epoch; return the mean loss. Raises InputError where the loss is no longer finite."""
        self.model.train()
        for module in self.frozen:
            module.eval()
        drawn = self.draws(epoch)
        seen: dict[int, int] = {}
        repeats = []
        for position in drawn.tolist():
            repeats.append(seen.get(position, 0))
            seen[position] = repeats[-1] + 1
        progress = Progress(f"train_fold, epoch {epoch + 1}/{self.settings.epochs}", len(drawn), every_s=15)
        losses = []
        for step, start in enumerate(range(0, len(drawn), self.settings.batch)):
            part = slice(start, start + self.settings.batch)
            losses.append(self._step(drawn[part], repeats[part], epoch, step))
            progress.step(len(drawn[part]))
        return float(np.mean(losses))

    def _step(self, drawn: np.ndarray, repeats: list[int], epoch: int, step: int) -> float:
        number = epoch * self.steps + step
        seed_torch(self.seed, "step", number)
        ids = [self.ids[position] for position in drawn]
        images = self.crops.batch([self.crops.places[image_id] for image_id in ids])
        numbers = draw_parameters(ids, self.seed, epoch, repeats).to(self.device)
        images = normalise(augment(images, numbers, self.settings))
        labels = torch.from_numpy(self.labels[drawn]).to(self.device)
        with mixed_precision(self.device):
            logits = self.model(images)
        loss: Tensor = self.loss(logits.float(), labels, self.weights, self.settings)
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the loss became {value} at epoch {epoch + 1}, step {step + 1}:"
                " lower classify.train_fold.learning_rate or set clip_norm"
            )
        self.optimiser.zero_grad()
        loss.backward()
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.schedule.step_update(number)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update(self.model, step=number)
        return value

    def state(self) -> dict[str, Any]:
        """Return all that a later epoch depends on."""
        averaged = self.averaged.module.state_dict() if self.averaged is not None else {}
        return {"model": self.model.state_dict(), "averaged": averaged, "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
