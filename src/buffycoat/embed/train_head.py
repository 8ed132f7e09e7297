"""Step `train_head`: the heads of branch B, cross-fitted on the folds of branch A."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.core.errors import InputError
from buffycoat.core.provenance import code_digest
from buffycoat.core.steps import run
from buffycoat.data.labels import embedded_rows
from buffycoat.data.random import stream
from buffycoat.data.tables.classify import PROBABILITIES
from buffycoat.data.tables.embed import EMBEDDINGS, HEAD_HISTORY
from buffycoat.data.tables.index import CLASSES, FOLDS, IMAGES, LABELS, class_codes
from buffycoat.embed.settings import TrainHead
from buffycoat.nets.batches import by_blocks
from buffycoat.nets.training import Checkpoint, fingerprint, seed_torch
from buffycoat.nets.weights import write_weights

log = logging.getLogger("buffycoat")
PROJECTION, DROPOUT = 256, 0.05
"""Width of the unit-length projection, and the share dropped after each hidden layer (arXiv 2603.16249)."""
TEMPERATURE, GAMMA = 0.07, 2.0
"""Temperature of the contrastive loss and focusing of the focal loss (arXiv 2603.16249)."""
CONTRASTIVE_SHARE = 0.3
"""Weight of the contrastive loss; the focal loss has the rest (arXiv 2603.16249)."""
BATCH, WEIGHT_DECAY = 256, 1e-5
"""Embeddings per step, and AdamW's weight decay (arXiv 2603.16249)."""


class Head(nn.Module):
    """Vectors (n, D) to a unit-length projection (n, P) and class logits (n, K)."""

    def __init__(self, dimensions: int, classes: int, settings: TrainHead) -> None:
        """Build Linear, LayerNorm, ReLU, Dropout per hidden layer, then the two outputs."""
        super().__init__()
        layers: list[nn.Module] = []
        before = dimensions
        for width in settings.hidden:
            layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(DROPOUT)]
            before = width
        self.body = nn.Sequential(*layers)
        self.projection = nn.Linear(before, PROJECTION)
        self.classifier = nn.Linear(before, classes)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return (projection, logits)."""
        hidden = self.body(vectors)
        return functional.normalize(self.projection(hidden), dim=1), self.classifier(hidden)


def supervised_contrast(projection: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss (L_out of arXiv 2004.11362), a scalar.

    Per anchor, minus the mean over its positives of the log-softmax of similarities to all others. Anchors without a
    positive in the batch are left out; with none at all the loss is zero.
    """
    similarity = projection @ projection.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    log_p = similarity - torch.logsumexp(similarity.masked_fill(itself, float("-inf")), dim=1, keepdim=True)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    count = positive.sum(dim=1)
    per_anchor = -torch.where(positive, log_p, 0).sum(dim=1) / count.clamp_min(1)
    anchors = count > 0
    return per_anchor[anchors].mean() if anchors.any() else projection.sum() * 0


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return the mean of (1 - p_y)^gamma (-ln p_y), a scalar."""
    loss = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - torch.exp(-loss)) ** gamma * loss).mean()


def head_loss(projection: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the weighted sum of both losses."""
    contrast = supervised_contrast(projection, labels, TEMPERATURE)
    return CONTRASTIVE_SHARE * contrast + (1 - CONTRASTIVE_SHARE) * focal(logits, labels, GAMMA)


def chances(labels: np.ndarray, codes: list[str], settings: TrainHead) -> np.ndarray:
    """Return how likely each row is drawn, summing to one."""
    counts = np.maximum(np.bincount(labels, minlength=len(codes)), 1).astype(np.float64)
    per_class = {"none": np.ones(len(codes)), "sqrt": counts**-0.5, "balanced": 1 / counts}[settings.sampler]
    per_class = per_class * np.array([settings.multipliers.get(code, 1.0) for code in codes])
    drawn = per_class[labels]
    return np.asarray(drawn / drawn.sum())


def scaling(vectors: Tensor, settings: TrainHead) -> tuple[Tensor, Tensor]:
    """Return the mean and spread per dimension that vectors are scaled by; (0, 1) without standardisation."""
    if not settings.standardise:
        return torch.zeros(vectors.shape[1]), torch.ones(vectors.shape[1])
    return vectors.mean(dim=0), vectors.std(dim=0, unbiased=False).clamp_min(1e-6)


def fit_head(
    vectors: Tensor, labels: np.ndarray, codes: list[str], fold: int, seed: int, settings: TrainHead
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the head's tensors (with `mean` and `spread` of its input) and the history; vectors are (n, D)."""
    seed_torch(seed, "head", fold)
    head = Head(vectors.shape[1], len(codes), settings).train()
    mean, spread = scaling(vectors, settings)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
    steps = max(1, len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * steps)
    numbers = torch.from_numpy(labels)
    p = chances(labels, codes, settings)
    history = []
    for epoch in range(settings.epochs):
        rng = stream(seed, "head", fold, epoch)
        losses = []
        for drawn in rng.choice(len(labels), (steps, min(BATCH, len(labels))), p=p):
            batch = vectors[drawn]
            if settings.noise:
                batch = batch + settings.noise * torch.from_numpy(rng.standard_normal(batch.shape, dtype=np.float32))
            projection, logits = head((batch - mean) / spread)
            loss = head_loss(projection, logits, numbers[drawn])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        history.append({"fold": fold, "epoch": epoch + 1, "train_loss": float(np.mean(losses))})
    if not np.isfinite(history[-1]["train_loss"]):
        raise InputError(f"the head of fold {fold} diverged: lower embed.train_head.learning_rate")
    return {**head.state_dict(), "mean": mean, "spread": spread}, history


def head_probabilities(tensors: dict[str, Tensor], vectors: Tensor, classes: int, settings: TrainHead) -> np.ndarray:
    """Return softmax probabilities (n, K) float64."""
    weights = dict(tensors)
    mean, spread = weights.pop("mean"), weights.pop("spread")
    head = Head(vectors.shape[1], classes, settings)
    head.load_state_dict(weights)
    head.eval()

    def judged(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = head((torch.from_numpy(rows) - mean) / spread)[1]
        made: np.ndarray = torch.softmax(logits.double(), dim=1).numpy()
        return made

    return by_blocks(judged, vectors.numpy())


def fit_heads(
    frame: pd.DataFrame, vectors: Tensor, codes: list[str], checkpoint: Checkpoint, seed: int, settings: TrainHead
) -> tuple[dict[int, dict[str, Tensor]], list[dict[str, Any]]]:
    """Return a head per fold (or one, -1, on everything) and the history; finished heads are kept if interrupted."""
    learned = frame["fold"].notna().to_numpy()
    folds = sorted({int(fold) for fold in frame.loc[learned, "fold"]}) if settings.cross_fit else [-1]
    stored = checkpoint.load() or {"heads": {}, "history": []}
    heads, history = {int(k): v for k, v in stored["heads"].items()}, list(stored["history"])
    for fold in folds:
        if fold in heads:
            continue
        rows = np.flatnonzero(learned & (frame["fold"] != fold).to_numpy())
        heads[fold], told = fit_head(
            vectors[rows], frame["number"].to_numpy()[rows].astype(np.int64), codes, fold, seed, settings
        )
        history += told
        log.info("head of fold %d: %d rows, last loss %.4f", fold, len(rows), told[-1]["train_loss"])
        checkpoint.save({"heads": {str(k): v for k, v in heads.items()}, "history": history})
    return heads, history


@dataclass(frozen=True)
class Heads:
    """What applying the heads needs."""

    by_fold: dict[int, dict[str, Tensor]]
    """Each head's tensors, with `mean` and `spread` of its input, by the fold that it did not learn; -1: it saw all."""
    codes: list[str]
    """The classes, in the order of a head's outputs."""
    settings: TrainHead
    """The shape of a head, and whether heads are cross-fitted."""


def vectors_of(rows: pd.DataFrame) -> Tensor:
    """Return the column `embedding` as one tensor, (n, D) float32."""
    return torch.from_numpy(np.stack(rows["embedding"].to_list()).astype(np.float32))


def apply(rows: pd.DataFrame, heads: Heads) -> pd.DataFrame:
    """Return branch B's probabilities (table PROBABILITIES) of the rows, in their order.

    Held-out rows come from their own fold's head, all others are the mean of heads. Parameters: rows, with image_id,
    embedding (D,) and fold, a gap where the image was not learned from.
    """
    vectors, count, settings = vectors_of(rows), len(heads.codes), heads.settings
    per_head = {fold: head_probabilities(head, vectors, count, settings) for fold, head in heads.by_fold.items()}
    values = np.mean(list(per_head.values()), axis=0)
    learned = rows["fold"].notna().to_numpy()
    for fold in per_head:
        own = learned & (rows["fold"] == fold).to_numpy()
        values[own] = per_head[fold][own]
    table = pd.DataFrame(values / values.sum(axis=1, keepdims=True), columns=heads.codes)
    table.insert(0, "image_id", rows["image_id"].to_numpy(object))
    own_name = "out_of_fold" if settings.cross_fit else "in_sample"
    table.insert(1, "source", np.where(learned, own_name, "fold_mean"))
    return table


def train_head(
    *, images: Path, labels: Path, classes: Path, folds: Path, embeddings: Path, heads: Path, probabilities: Path,
    history: Path, seed: int, settings: TrainHead,
) -> None:  # fmt: skip
    """Fit the heads and write them, their history, and a row of probabilities per decodable image."""
    codes = class_codes(CLASSES.read(classes))
    frame = embedded_rows(
        IMAGES.read(images), LABELS.read(labels), FOLDS.read(folds), EMBEDDINGS.read(embeddings), codes
    )
    if not settings.cross_fit:
        log.warning("cross_fit is off: the head has seen every training row, so its scores on them are not honest")
    inputs = {"images": images, "labels": labels, "classes": classes, "folds": folds, "embeddings": embeddings}
    stamp = fingerprint(settings, inputs, code_digest("buffycoat.embed.train_head"), seed=seed)
    checkpoint = Checkpoint(heads.with_name("head_checkpoint.safetensors"), stamp)
    fitted, told = fit_heads(frame, vectors_of(frame), codes, checkpoint, seed, settings)
    PROBABILITIES.write(apply(frame, Heads(fitted, codes, settings)), probabilities)
    HEAD_HISTORY.write(pd.DataFrame(told), history)
    dimensions = len(frame["embedding"].iloc[0])
    about = {"classes": codes, "dimensions": dimensions, "settings": settings.model_dump(mode="json")}
    write_weights({f"fold_{fold}.{name}": t for fold, head in fitted.items() for name, t in head.items()}, about, heads)
    checkpoint.remove()


if __name__ == "__main__":
    run(train_head)
