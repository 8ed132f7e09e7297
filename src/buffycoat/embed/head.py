"""The contrastive head of branch B and its losses (arXiv 2603.16249; supervised contrast: arXiv 2004.11362)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from buffycoat.embed.settings import TrainHead


class Head(nn.Module):
    """Vectors (n, D) to a unit-length projection (n, P) and class logits (n, K)."""

    def __init__(self, dimensions: int, classes: int, settings: TrainHead) -> None:
        """Build Linear, LayerNorm, ReLU, Dropout per hidden layer, then the two outputs."""
        super().__init__()
        layers: list[nn.Module] = []
        before = dimensions
        for width in settings.hidden:
            layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(settings.dropout)]
            before = width
        self.body = nn.Sequential(*layers)
        self.projection = nn.Linear(before, settings.projection)
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


def head_loss(projection: Tensor, logits: Tensor, labels: Tensor, settings: TrainHead) -> Tensor:
    """Return the weighted sum of both losses."""
    contrast = supervised_contrast(projection, labels, settings.temperature)
    share = settings.contrastive_share
    return share * contrast + (1 - share) * focal(logits, labels, settings.gamma)
