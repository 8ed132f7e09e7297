"""One fold's training as a state that can run an epoch, be stored at any step, and be taken up again."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from buffycoat.classify.augment import augment, augmentation_of
from buffycoat.classify.backbones import build_backbone, classifier_names, early_stages, freeze, normalise
from buffycoat.classify.crops import Batch, Crops, Sampler
from buffycoat.classify.recipes import (
    LOSSES,
    Balance,
    draw_factors,
    epochs_of,
    ldam_margins,
    weights_of,
    with_classifier,
)
from buffycoat.classify.settings import TrainFold
from buffycoat.core.errors import InputError
from buffycoat.core.progress import Progress
from buffycoat.core.settings import Runtime
from buffycoat.nets.batches import Prefetched
from buffycoat.nets.device import mixed_precision, worth_compiling
from buffycoat.nets.training import seed_torch

log = logging.getLogger("buffycoat")
WEIGHT_DECAY = 0.01
"""Of AdamW (arXiv 2603.16249)."""
LOOK_EVERY = 16
"""Steps between looks at the losses: each look makes the GPU wait for the CPU."""
DIVERGED = 5.0
"""A training has diverged where an epoch's recent losses exceed the first ones so many times."""


class FoldTraining:
    """Network, averaged network, optimiser and schedule of one fold; (labels are 0..K-1, one per training image)."""

    def __init__(
        self,
        crops: Crops,
        ids: list[str],
        labels: npt.NDArray[np.int64],
        classes: int,
        recipe: str,
        seed: int,
        settings: TrainFold,
        body: dict[str, Tensor] | None = None,
        runtime: Runtime = Runtime(),
    ) -> None:
        """Build everything from the seed, which already depends on the fold; `body`: weights that `crt` starts from."""
        self.crops, self.ids, self.recipe = crops, ids, recipe
        self.settings, self.seed, self.device, self.runtime = settings, seed, crops.device, runtime
        self.augmentation = augmentation_of(settings)
        self.counts = np.bincount(labels, minlength=classes)
        self.epochs = epochs_of(recipe, settings)
        self.frozen: list[nn.Module] = []
        self.model = self._network(classes, body)
        chances = draw_factors(recipe, self.counts, settings)
        each = None if np.ptp(chances[self.counts > 0]) == 0 else chances[labels] / chances[labels].sum()
        self.sampler = Sampler(crops, ids, labels, each, settings.batch, seed)
        self.steps = self.sampler.steps
        self.averaged = ModelEmaV3(self.model, decay=settings.ema, use_warmup=True) if settings.ema else None
        if worth_compiling(runtime.compile, self.device):
            self.model.compile()
        self.optimiser = self._optimiser()
        self.schedule = self._schedule()
        self.micro = runtime.micro_batch or settings.batch
        self.done = 0
        """Steps done so far, counted through all epochs."""
        self.losses: list[Tensor] = []
        """Losses of the running epoch's steps, each of shape (1,), on the device."""
        self.waited_s = 0.0
        """Seconds that steps have waited for their batch since this object was made."""

    def _network(self, classes: int, body: dict[str, Tensor] | None) -> nn.Module:
        settings = self.settings
        seed_torch(self.seed, "initialise")
        weights = None if body is not None else settings.weights
        network = build_backbone(settings.backbone, settings.backbone_options, weights, classes, settings.size_px)
        network = with_classifier(network, self.recipe, classes)
        if body is not None:
            head = classifier_names(network)
            own = network.state_dict()
            network.load_state_dict({**body, **{name: own[name] for name in head}}, strict=True)
            self.frozen = [network]
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frozen += early_stages(network, settings.frozen_stages)
        freeze(self.frozen)
        if body is not None:
            network.get_classifier().requires_grad_(True)  # type: ignore[operator]
        return network

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
            for group in param_groups_weight_decay(part, WEIGHT_DECAY):
                groups.append({**group, "lr": self.settings.learning_rate * rate})
        kept = [group for group in groups if group["params"]]
        fused = True if self.device.type == "cuda" else None
        return torch.optim.AdamW(kept, lr=self.settings.learning_rate, fused=fused)

    def _schedule(self) -> CosineLRScheduler:
        total = self.epochs * self.steps
        warm = round(self.settings.warm_up * total)
        return CosineLRScheduler(
            self.optimiser, t_initial=max(1, total - warm), warmup_t=warm, warmup_prefix=True, t_in_epochs=False,
            warmup_lr_init=self.settings.learning_rate / 100,
        )  # fmt: skip

    @property
    def judged(self) -> nn.Module:
        """The network whose predictions count: the averaged one where there is one."""
        network: nn.Module = self.averaged.module if self.averaged is not None else self.model
        return network

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return self.done // self.steps

    def balance(self, epoch: int) -> Balance:
        """Return what the loss knows of the classes at an epoch."""

        def tensor(values: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

        weights = weights_of(self.recipe, self.counts, epoch, self.settings)
        margins = ldam_margins(self.counts)
        return Balance(tensor(self.counts), tensor(weights), tensor(margins), self.settings)

    def run_epoch(self, epoch: int, after_step: Callable[[], None] = lambda: None) -> float:
        """Train what is left of `epoch`; return the mean loss of its steps. `after_step` may store the state or raise.

        Raises InputError where the loss is no longer finite, or has grown many times over.
        """
        self.model.train()
        for module in self.frozen:
            module.eval()
        balance = self.balance(epoch)
        last = (epoch + 1) * self.steps
        progress = Progress(f"train_fold, epoch {epoch + 1}/{self.epochs}", self.steps * self.sampler.batch, every_s=15)
        progress.done = len(self.losses) * self.sampler.batch
        batches = Prefetched(self.sampler.make, range(self.done, last))
        for batch in batches:
            self._step(batch, balance)
            if self.done % LOOK_EVERY == 0 or self.done == last:
                self.look()
            progress.step(self.sampler.batch)
            after_step()
        self.waited_s += batches.waited_s
        mean = float(torch.cat(self.losses).mean())
        self.losses = []
        return mean

    def look(self) -> None:
        """Raise InputError, with the step and a hint, where the losses say that training has failed."""
        if not self.losses:
            return
        values = torch.cat(self.losses).cpu().numpy()
        advice = "lower classify.train_fold.learning_rate, raise warm_up, or set clip_norm"
        for step, value in enumerate(values):
            if not math.isfinite(value):
                where = f"epoch {self.epoch_of_losses + 1}, step {step + 1}"
                raise InputError(f"the loss became {value} at {where}: {advice}")
        first, recent = values[:LOOK_EVERY].mean(), values[-LOOK_EVERY:].mean()
        if recent > DIVERGED * max(first, 0.1):
            raise InputError(
                f"training diverged: the loss rose from {first:.3g} to {recent:.3g} in epoch"
                f" {self.epoch_of_losses + 1} by step {len(values)}: {advice}"
            )

    @property
    def epoch_of_losses(self) -> int:
        """The epoch that the kept losses belong to, from 0."""
        return (self.done - 1) // self.steps

    def _step(self, batch: Batch, balance: Balance) -> None:
        number = self.done
        seed_torch(self.seed, "step", number)
        images = augment(self.crops.as_images(batch.pixels), batch.draws, self.augmentation)
        loss = self._gradients(normalise(images, self.model), batch.labels, balance)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.schedule.step_update(number)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update(self.model, step=number)
        self.losses.append(loss)
        self.done += 1

    def _gradients(self, images: Tensor, labels: Tensor, balance: Balance) -> Tensor:
        """Leave the gradients of the batch's mean loss; return it, (1,). Halves the micro-batch where memory ends."""
        while True:
            self.optimiser.zero_grad()
            try:
                parts = pieces(len(labels), self.micro)
                sums = [self._part(images[part], labels[part], balance) for part in parts]
            except torch.OutOfMemoryError:
                self._halve(len(labels))
            else:
                return torch.stack(sums).sum(dim=0) / self.sampler.batch

    def _part(self, images: Tensor, labels: Tensor, balance: Balance) -> Tensor:
        """Add the gradients of some images, divided by the whole batch; return the sum of their losses, (1,)."""
        with mixed_precision(self.device, self.runtime.bf16_on_cpu):
            logits = self.model(images)
        total = LOSSES[self.recipe](logits.float(), labels, balance).sum()
        (total * (1 / self.sampler.batch)).backward()
        return total.detach().view(1)

    def _halve(self, size: int) -> None:
        self.micro = min(self.micro, size) // 2
        if self.micro == 0:
            raise InputError(
                "the GPU's memory does not hold one image of this size: lower classify.train_fold.size_px"
            ) from None
        torch.cuda.empty_cache()
        log.warning(
            "out of GPU memory: micro-batches of %d from now on, the batch stays %d (runtime.micro_batch begins with"
            " fewer)", self.micro, size,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return all that a later step depends on."""
        averaged = self.averaged.module.state_dict() if self.averaged is not None else {}
        losses = torch.cat(self.losses) if self.losses else torch.empty(0)
        return {
            "model": self.model.state_dict(), "averaged": averaged, "optimiser": self.optimiser.state_dict(),
            "done": self.done, "losses": losses, "micro": self.micro,
        }  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.module.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        # The smaller of what the memory has held so far and what the machine is allowed now.
        self.done, self.micro = state["done"], min(state["micro"], self.micro)
        self.losses = list(state["losses"].to(self.device).split(1))


def pieces(size: int, most: int) -> list[slice]:
    """Return slices that divide `size` into parts of at most `most`."""
    return [slice(start, min(start + most, size)) for start in range(0, size, most)]
