"""MedSigLIP's vision tower: SigLIP SO400M, 448 px, patch 14, attention pool (doi 10.1109/ICCV51070.2023.01100).

The published checkpoint is in the naming of `transformers`; it is mapped key for key onto timm's network. The
activation is the tanh form of GELU: with timm's default the embeddings are off by 3e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from buffycoat.errors import InputError
from buffycoat.weights import read_weights

ARCHITECTURE = "vit_so400m_patch14_siglip_384"
WHERE = (
    "MedSigLIP (google/medsiglip-448) is gated: accept its terms at its model page, download the folder (config.json,"
    " model.safetensors) and name it in embed.embed_cells.weights; or set encoder: efficientnet_lite0"
)


def vision_network(size_px: int = 448, **reduced: Any) -> nn.Module:
    """Return the untrained network; `reduced` shrinks it for tests (embed_dim, depth, num_heads, mlp_ratio)."""
    import timm

    network: nn.Module = timm.create_model(
        ARCHITECTURE, pretrained=False, num_classes=0, img_size=size_px, act_layer="gelu_tanh", **reduced
    )
    return network


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the vision tower's tensors without `vision_model.`; the text tower and scalars are left out."""
    marked = {key: value for key, value in weights.items() if key.startswith("vision_model.")}
    if marked:
        return {key.removeprefix("vision_model."): value for key, value in marked.items()}
    return {key: value for key, value in weights.items() if not key.startswith(("text_model.", "logit_"))}


def _layer(weights: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    theirs, ours = f"encoder.layers.{number}.", f"blocks.{number}."
    renamed: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        parts = [weights.pop(f"{theirs}self_attn.{name}_proj.{kind}") for name in ("q", "k", "v")]
        renamed[f"{ours}attn.qkv.{kind}"] = torch.cat(parts)
        renamed[f"{ours}attn.proj.{kind}"] = weights.pop(f"{theirs}self_attn.out_proj.{kind}")
        for a, b in (
            ("layer_norm1", "norm1"),
            ("layer_norm2", "norm2"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            renamed[f"{ours}{b}.{kind}"] = weights.pop(f"{theirs}{a}.{kind}")
    return renamed


def _pool(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {"attn_pool.latent": weights.pop("head.probe")}
    for kind in ("weight", "bias"):
        joint = weights.pop(f"head.attention.in_proj_{kind}")
        query, rest = joint.split([joint.shape[0] // 3, joint.shape[0] * 2 // 3])
        renamed[f"attn_pool.q.{kind}"], renamed[f"attn_pool.kv.{kind}"] = query, rest
        renamed[f"attn_pool.proj.{kind}"] = weights.pop(f"head.attention.out_proj.{kind}")
        renamed[f"attn_pool.norm.{kind}"] = weights.pop(f"head.layernorm.{kind}")
        for layer in ("fc1", "fc2"):
            renamed[f"attn_pool.mlp.{layer}.{kind}"] = weights.pop(f"head.mlp.{layer}.{kind}")
    return renamed


def convert(published: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return the published tensors under timm's names; raises InputError where one is missing or left over."""
    weights = _without_prefix(published)
    try:
        renamed = {
            "patch_embed.proj.weight": weights.pop("embeddings.patch_embedding.weight"),
            "patch_embed.proj.bias": weights.pop("embeddings.patch_embedding.bias"),
            "pos_embed": weights.pop("embeddings.position_embedding.weight")[None],
            "norm.weight": weights.pop("post_layernorm.weight"),
            "norm.bias": weights.pop("post_layernorm.bias"),
        }
        for number in range(depth):
            renamed |= _layer(weights, number)
        renamed |= _pool(weights)
    except KeyError as missing:
        raise InputError(
            f"SigLIP checkpoint: the tensor {missing} is missing; the file is not a whole SigLIP"
        ) from None
    weights.pop("embeddings.position_ids", None)
    if weights:
        raise InputError(f"SigLIP checkpoint: unknown tensors {sorted(weights)[:5]} ({len(weights)} in all)")
    return renamed


def load_published(network: nn.Module, published: dict[str, Tensor]) -> None:
    """Load a published state dict strictly; raises InputError on any key or shape that does not fit."""
    depth = len(network.blocks)  # type: ignore[arg-type]
    converted = convert(published, depth)
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(converted)) or [k for k in own if own[k].shape != converted[k].shape]
    if wrong:
        raise InputError(f"SigLIP checkpoint: does not fit the network at {wrong[:5]} ({len(wrong)} tensors)")
    network.load_state_dict(converted, strict=True)


def medsiglip(folder: Path | None, size_px: int) -> nn.Module:
    """Return MedSigLIP's vision network with the weights of a local folder; raises InputError where they are absent."""
    if folder is None:
        raise InputError(f"embed.embed_cells.weights: not set, but the encoder is medsiglip; {WHERE}")
    file = folder / "model.safetensors"
    if not file.is_file():
        raise InputError(f"{file}: no such file; {WHERE}")
    network = vision_network(size_px)
    load_published(network, read_weights(file)[0])
    return network
